//! The contract on servers that speak DynamoDB's protocol, the table's schema, and what a failing connection
//! does.

use crate::table::contract::check;
use crate::table::dynamodb::testing::{each_server, new_table};

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    for server in each_server() {
        eprintln!("on {}", server.name);
        check(&new_table(&server).await).await;
    }
}
