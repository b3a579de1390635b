//! Removal of a member who is on two nodes, and of one whose node hears nothing of it.

use fleet::Proxy;
use harness::{eventually, unique_id};

use super::{PATIENCE, cluster};
use crate::fixtures::client;
use crate::removal::{api, is_kept_out, kicked, removes_under_load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reaches_somebody_who_was_removed_on_any_node() {
    let fleet = cluster().await;
    removes_under_load(&fleet).await;
    let mut kicks = 0.0;
    for gateway in fleet.gateways() {
        kicks += gateway.metrics().await.unwrap().sum("roomcast_kicked_total");
    }
    assert_eq!(kicks, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_did_not_hear_of_a_removal_finds_it_when_it_comes_back() {
    let mut fleet = cluster().await;
    let proxy = Proxy::start(fleet.redis().port()).await.unwrap();
    let through = fleet.redis().url_at(proxy.port());
    let far = &mut fleet.gateways_mut()[1];
    far.options_mut().env.insert("REDIS_URL".to_owned(), through);
    far.terminate(PATIENCE).await.unwrap();
    far.restart(PATIENCE).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    let mallory = client(&fleet.gateways()[1], "mallory").await;
    alice.join("r", None).await.unwrap();
    mallory.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "hello").await.unwrap();

    proxy.link().set_on(false);
    proxy.link().cut();
    let path = "/api/rooms/r/members/mallory";
    api(&fleet.gateways()[0]).ask("DELETE", path, None).await.expect(200);
    let secret = unique_id();
    alice.send("r", &secret, "not for mallory").await.unwrap();
    proxy.link().set_on(true);
    kicked(&mallory).await;
    let ready = || async { fleet.gateways()[1].is_ready().await };
    eventually(PATIENCE, "the node is back", ready).await;
    is_kept_out(&mallory).await;
    assert!(!format!("{:?}", mallory.log()).contains("not for mallory"));
}
