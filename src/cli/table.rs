//! `cuspid table`: manages the table of the index in DynamoDB.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::cli::{Settings, runtime};
use crate::table::dynamodb::DynamodbTable;

/// Arguments of `cuspid table`.
#[derive(Debug, Args)]
pub(super) struct TableArguments {
    #[command(subcommand)]
    command: TableCommand,
}

#[derive(Debug, Subcommand)]
enum TableCommand {
    /// Create the table that dynamodb.table names, or verify an existing one.
    Create(CreateArguments),
}

/// Arguments of `cuspid table create`.
#[derive(Debug, Args)]
struct CreateArguments {
    #[command(flatten)]
    settings: Settings,
    /// Turn on deletion protection: the table cannot be deleted until protection is turned off with the AWS
    /// tools.
    #[arg(long)]
    deletion_protection: bool,
}

impl TableArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            TableCommand::Create(command) => command.run(),
        }
    }
}

impl CreateArguments {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        let name = &config.dynamodb.table;
        let created = runtime()?.block_on(async {
            let table = DynamodbTable::connect(&config.dynamodb).await;
            table.create(self.deletion_protection).await
        });
        let created = created.with_context(|| format!("cannot create the table {name} (dynamodb.table)"))?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "the table {name} {}",
            if created.is_new { "was created" } else { "exists and has the right schema" }
        )?;
        if !created.has_recovery {
            writeln!(out, "this service has no point-in-time recovery: make backups")?;
        }
        Ok(())
    }
}
