//! The life of a payment, as its merchant sees it.

use crate::server::TestServer;

#[test]
fn a_charge_takes_the_money_at_once() {
    let server = TestServer::start();
    let charge = server.charge("order_1", 4999).of(201);
    assert_eq!(charge.json["status"], "completed");
}
