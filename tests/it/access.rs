//! Merchants and their keys: made, used, limited and revoked by admins, whose every deed is on record.

use crate::{
    client::Client,
    proof::fingerprint,
    secrets::is_in_folder,
    server::{ADMIN_KEY, TestServer},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

/// A merchant that is made by the API.
fn shop(server: &TestServer) -> Value {
    let body = json!({"id": "shop", "name": "The Shop"});
    server.admin().post("/api/merchants", "", &body).of(201).json
}

#[track_caller]
fn make_key(server: &TestServer, body: &Value) -> Value {
    server.admin().post("/api/merchants/shop/keys", "", body).of(201).json
}

fn client(server: &TestServer, key: &Value) -> Client {
    server.client(key["key"].as_str().unwrap())
}

#[test]
fn a_merchant_made_by_the_api_takes_payments_with_its_key_also_after_a_kill_and_from_a_snapshot() {
    let mut server = TestServer::start();
    let made = shop(&server);
    let fields = ["createdAt", "enabled", "id", "name", "origin"];
    assert!(made.as_object().unwrap().keys().eq(fields));
    assert_eq!(
        (&made["id"], &made["enabled"], &made["origin"]),
        (&json!("shop"), &json!(true), &json!("api"))
    );
    let key = make_key(&server, &json!({"label": "web"}));
    let text = key["key"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("{}_", key["prefix"].as_str().unwrap())), "{text}");
    assert!(text.starts_with("sk_live_") && text.len() >= 8 + 32 + 1 + 43);
    assert_eq!(key["scopes"].as_array().unwrap().len(), 4);
    let paid = client(&server, &key).charge("order", 500).of(201);
    assert_eq!(paid.json["merchantId"], "shop");
    server.admin().post("/api/snapshot", "", &json!({})).of(200);
    server.kill();
    server.restart();
    assert!(server.announced().contains("snapshot"), "{}", server.announced());
    let again = client(&server, &key);
    assert!(again.charge("order", 500).of(201).is_replay());
    assert_eq!(again.balance("merchant:shop", "USD"), (500, 0));
    server.charge("theirs", 100).of(201);
    assert_eq!(again.all("/api/payments").len(), 1, "a merchant sees its own");
    server.get(&format!("/api/payments/{}", paid.id())).problem(404, "payment_not_found");
    let shown = server.admin().get("/api/merchants/shop/keys").of(200);
    assert!(!shown.text().contains(&text), "a key is shown once");
    assert_eq!(shown.json["data"][0]["id"], key["id"]);
    server.admin().reconciles();
    server.terminate();
    assert!(server.tell(&["verify"]).status.success());
}

#[test]
fn merchants_are_listed_changed_and_disabled() {
    let server = TestServer::start();
    shop(&server);
    let admin = server.admin();
    let ids = |path: &str| -> Vec<String> {
        admin.all(path).iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/api/merchants"), ["merchant_1", "merchant_2", "shop"]);
    assert_eq!(ids("/api/merchants?limit=1"), ["merchant_1", "merchant_2", "shop"]);
    admin.post("/api/merchants", "", &json!({"id": "shop"})).problem(409, "merchant_exists");
    admin.post("/api/merchants", "", &json!({"id": "merchant_1"})).problem(409, "merchant_exists");
    for id in ["", "admin", "a b", "shop~test", &"x".repeat(65)] {
        let refused = admin.post("/api/merchants", "", &json!({"id": id}));
        assert_eq!(refused.problem(400, "validation_failed").faulty_fields(), ["id"]);
    }
    admin.get("/api/merchants/nobody").problem(404, "merchant_not_found");
    let configured = admin.patch("/api/merchants/merchant_1", &json!({"enabled": false}));
    configured.problem(409, "merchant_configured");
    let key = make_key(&server, &json!({"label": "web"}));
    let merchant = client(&server, &key);
    let id = merchant.charge("order", 500).of(201).id();
    let disabled = admin.patch("/api/merchants/shop", &json!({"enabled": false})).of(200).json;
    assert_eq!((&disabled["enabled"], &disabled["name"]), (&json!(false), &json!("The Shop")));
    merchant.charge("other", 500).problem(403, "merchant_disabled");
    merchant.refund_all(&id).problem(403, "merchant_disabled");
    merchant.get(&format!("/api/payments/{id}")).of(200);
    admin.patch("/api/merchants/shop", &json!({"enabled": true, "name": "Shop 2"})).of(200);
    merchant.refund_all(&id).of(200);
    server.post("/api/merchants", "", &json!({"id": "x"})).problem(403, "forbidden");
}

#[test]
fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let server = TestServer::start();
    shop(&server);
    let with = |scope: &str| {
        client(&server, &make_key(&server, &json!({"label": scope, "scopes": [scope]})))
    };
    let [write, read, ledger, hooks] =
        ["payments:write", "payments:read", "ledger:read", "webhooks:write"].map(with);
    let id = write.charge("order", 500).of(201).id();
    let hook = json!({"url": "http://127.0.0.1:1/"});
    type Ask<'a> = Box<dyn Fn(&Client) -> crate::client::Response + 'a>;
    let asks: [(&str, Ask<'_>); 5] = [
        ("payments:write", Box::new(|client| client.charge("order", 500))),
        ("payments:read", Box::new(|client| client.get(&format!("/api/payments/{id}")))),
        ("payments:read", Box::new(|client| client.get("/api/events"))),
        ("ledger:read", Box::new(|client| client.get("/api/ledger/merchant:shop"))),
        ("webhooks:write", Box::new(|client| client.post("/api/webhook-endpoints", "", &hook))),
    ];
    let clients = [
        ("payments:write", &write),
        ("payments:read", &read),
        ("ledger:read", &ledger),
        ("webhooks:write", &hooks),
    ];
    for (needed, ask) in &asks {
        for (scope, client) in clients {
            let answer = ask(client);
            if scope == *needed {
                assert!(answer.status < 300, "{scope}: {}", answer.text());
            } else {
                answer.problem(403, "insufficient_scope");
            }
        }
    }
    let refused = server.admin().post(
        "/api/merchants/shop/keys",
        "",
        &json!({"scopes": ["payments:all"], "mode": "dry", "expiresAt": "2001-01-01T00:00:00Z"}),
    );
    let refused = refused.problem(400, "validation_failed");
    assert_eq!(refused.faulty_fields(), ["mode", "scopes", "label", "expiresAt"]);
}

#[test]
fn live_payments_and_test_ones_never_meet() {
    let server = TestServer::start();
    shop(&server);
    let live = client(&server, &make_key(&server, &json!({"label": "l", "mode": "live"})));
    let key = make_key(&server, &json!({"label": "t", "mode": "test"}));
    assert!(key["key"].as_str().unwrap().starts_with("sk_test_"));
    let test = client(&server, &key);
    let real = live.charge("order", 500).of(201);
    let tried = test.charge("order", 900).of(201);
    assert!(!tried.is_replay(), "a key of its own");
    assert_eq!((&tried.json["merchantId"], &tried.json["mode"]), (&json!("shop"), &json!("test")));
    assert_eq!(real.json["mode"], Value::Null);
    live.get(&format!("/api/payments/{}", tried.id())).problem(404, "payment_not_found");
    test.get(&format!("/api/payments/{}", real.id())).problem(404, "payment_not_found");
    assert_eq!(live.balance("merchant:shop", "USD"), (500, 0));
    assert_eq!(test.balance("merchant:shop", "USD"), (900, 0));
    let entry = test.get("/api/ledger/merchant:shop").of(200).json["entries"][0].clone();
    assert_eq!(entry["accountId"], "merchant:shop");
    for (client, id) in [(&live, real.id()), (&test, tried.id())] {
        let payments = client.all("/api/payments");
        assert_eq!((payments.len(), payments[0]["id"].as_str()), (1, Some(id.as_str())));
        let events = client.all("/api/events");
        assert_eq!((events.len(), events[0]["data"]["id"].as_str()), (1, Some(id.as_str())));
    }
    let body = json!({"merchantId": "shop", "amount": 5, "currency": "USD"});
    test.pay("named", &body).of(201);
    server.admin().reconciles();
}

#[test]
fn a_key_is_revoked_at_once_and_for_good_and_one_that_expires_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ahead");
    fs::write(&file, "0").unwrap();
    let mut server = TestServer::start_with(&[("STRONGROOM_CLOCK_AHEAD", file.to_str().unwrap())]);
    shop(&server);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let body = json!({"label": "for an hour", "expiresAt": soon.to_string()});
    let expires = make_key(&server, &body);
    let revoked = make_key(&server, &json!({"label": "lost"}));
    let stays = make_key(&server, &json!({"label": "stays"}));
    let path = format!("/api/merchants/shop/keys/{}", revoked["id"].as_str().unwrap());
    client(&server, &revoked).charge("a", 1).of(201);
    let ended = server.admin().delete(&path).of(200).json;
    assert!(ended["revokedAt"].is_string());
    assert_eq!(server.admin().delete(&path).of(200).json, ended, "once is enough");
    client(&server, &revoked).charge("b", 1).problem(401, "unauthenticated");
    let elsewhere = path.replace("shop", "merchant_1");
    server.admin().delete(&elsewhere).problem(404, "api_key_not_found");
    server.kill();
    server.restart();
    client(&server, &revoked).charge("b", 1).problem(401, "unauthenticated");
    client(&server, &expires).charge("c", 1).of(201);
    fs::write(&file, "3600001").unwrap();
    eventually("it expires", || {
        (client(&server, &expires).get("/api/payments").status == 401).then_some(())
    });
    client(&server, &stays).charge("d", 1).of(201);
}

#[test]
fn what_is_no_key_of_anybody_is_answered_alike() {
    let server = TestServer::start();
    shop(&server);
    let key = make_key(&server, &json!({"label": "web"}));
    let text = key["key"].as_str().unwrap();
    let prefix = key["prefix"].as_str().unwrap();
    let unknown = format!("sk_live_{}_{}", "0".repeat(32), &text[prefix.len() + 1..]);
    let wrong = format!("{prefix}_{}", "A".repeat(43));
    let moved = text.replace("sk_live_", "sk_test_");
    let bodies = [
        unknown,
        wrong,
        moved,
        format!("{text}A"),
        prefix.to_owned(),
        "sk_live_".to_owned(),
        "x".to_owned(),
    ]
    .map(|presented| {
        server.client(&presented).get("/api/payments").problem(401, "unauthenticated").text()
    });
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[test]
fn admins_have_keys_of_their_own_and_whatever_they_do_is_in_the_audit_trail() {
    let server = TestServer::start();
    let admin = server.admin();
    let made = admin.post("/api/admin-keys", "", &json!({"label": "ops"})).of(201).json;
    let text = made["key"].as_str().unwrap();
    assert!(text.starts_with("ak_"));
    let second = server.client(text);
    let body = json!({"id": "shop"});
    second.post("/api/merchants", "", &body).of(201);
    let payment = json!({"merchantId": "shop", "amount": 5, "currency": "USD"});
    let paid = second.pay("by_hand", &payment).of(201).id();
    second.post("/api/reconcile", "", &json!({})).of(200);
    second.post("/api/snapshot", "", &json!({})).of(200);
    let hook = json!({"url": "http://127.0.0.1:1/", "merchantId": "shop"});
    second.post("/api/webhook-endpoints", "", &hook).of(201);
    let id = made["id"].as_str().unwrap();
    server.charge("not_an_admins", 5).of(201);
    admin.delete(&format!("/api/admin-keys/{id}")).of(200);
    second.get("/api/audit").problem(401, "unauthenticated");
    server.get("/api/audit").problem(403, "forbidden");
    let check = |server: &TestServer| {
        let deeds = server.admin().all("/api/audit?limit=2");
        let told: Vec<String> = deeds
            .iter()
            .map(|deed| format!("{} {}", deed["actor"], deed["action"]).replace('"', ""))
            .collect();
        let ops = format!("admin/{id}");
        assert_eq!(
            told,
            [
                "admin/test key revoked".to_owned(),
                format!("{ops} webhook endpoint created"),
                format!("{ops} snapshot asked for"),
                format!("{ops} reconciliation asked for"),
                format!("{ops} payment charged"),
                format!("{ops} merchant made"),
                "admin/test key made".to_owned(),
            ]
        );
        assert_eq!(deeds[4]["subject"], paid);
        assert!(deeds.iter().all(|deed| deed["blockHash"].is_string()));
        let keys = server.admin().all("/api/admin-keys");
        assert_eq!((keys.len(), &keys[0]["id"]), (1, &json!(id)));
        assert!(keys[0]["revokedAt"].is_string());
    };
    check(&server);
    let mut server = server;
    server.admin().post("/api/snapshot", "", &json!({})).of(200);
    server.kill();
    server.restart();
    let deeds = server.admin().all("/api/audit");
    assert_eq!(deeds.len(), 8, "with the last snapshot");
}

#[test]
fn the_pepper_stands_beside_the_journal_for_its_owner_alone_and_without_it_no_key_opens() {
    let mut server = TestServer::start();
    shop(&server);
    let key = make_key(&server, &json!({"label": "web"}));
    let pepper = server.data().join("pepper");
    assert_eq!(fs::metadata(&pepper).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.tell(&["backup", "backup"]).status.success());
    assert!(!server.path("backup").join("pepper").exists());
    server.terminate();
    let before = fingerprint(&server.data());
    let shown = server.beside(&["--read-only"]);
    shown.client(key["key"].as_str().unwrap()).get("/api/payments").of(200);
    drop(shown);
    assert_eq!(fingerprint(&server.data()), before);
    let kept = fs::read(&pepper).unwrap();
    let text = String::from_utf8(kept.clone()).unwrap();
    let raw = hex::decode(text.trim_end()).unwrap();
    assert!(!is_in_folder(&server.data().join("journal"), &raw), "the pepper is in the journal");
    fs::remove_file(&pepper).unwrap();
    server.restart();
    client(&server, &key).get("/api/payments").problem(401, "unauthenticated");
    server.client(ADMIN_KEY).get("/api/merchants/shop").of(200);
    server.terminate();
    fs::write(&pepper, kept).unwrap();
    server.restart();
    client(&server, &key).charge("order", 5).of(201);
}
