//! `cuspid table`: the table of the index in DynamoDB.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::cli::{Settings, runtime};
use crate::table::dynamodb::DynamodbTable;

/// Arguments of `cuspid table`.
#[derive(Debug, Args)]
pub(super) struct Table {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the table that dynamodb.table names, or verify the one that is there.
    Create(Create),
}

/// Arguments of `cuspid table create`.
#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    settings: Settings,
    /// Forbid to delete the table, until that is allowed again with the AWS tools.
    #[arg(long)]
    deletion_protection: bool,
}

impl Table {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Create(command) => command.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        let name = &config.dynamodb.table;
        let made = runtime()?.block_on(async {
            let table = DynamodbTable::connect(&config.dynamodb).await;
            table.create(self.deletion_protection).await
        });
        let made = made.with_context(|| format!("cannot make the table {name} (dynamodb.table)"))?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "the table {name} {}",
            if made.is_new { "was made" } else { "is there, as it must be" }
        )?;
        if !made.has_recovery {
            writeln!(out, "this service knows no point in time recovery: make back-ups")?;
        }
        Ok(())
    }
}
