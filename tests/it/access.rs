//! Merchants and their keys: made, used, limited and revoked by admins, whose every deed is on record.

use crate::{
    client::Client,
    clock::{Clock, HOUR},
    proof::fingerprint,
    secrets::is_in_folder,
    server::{ADMIN_KEY, TestServer},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
};

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
    let hook = json!({"url": "http://127.0.0.1:1/"});
    merchant.post("/api/webhook-endpoints", "", &hook).problem(403, "merchant_disabled");
    merchant.get(&format!("/api/payments/{id}")).of(200);
    let renamed = admin.patch("/api/merchants/shop", &json!({"name": "Shop 2"})).of(200).json;
    assert_eq!((&renamed["enabled"], &renamed["name"]), (&json!(false), &json!("Shop 2")));
    admin.patch("/api/merchants/shop", &json!({})).of(200);
    admin.patch("/api/merchants/shop", &json!({"enabled": true})).of(200);
    merchant.refund_all(&id).of(200);
    let told = admin.get("/api/audit?limit=3").of(200).json["data"].clone();
    let told: Vec<_> = told.as_array().unwrap().iter().map(|deed| deed["action"].clone()).collect();
    assert_eq!(told, ["merchant enabled", "merchant renamed", "merchant disabled"]);
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
    for client in [&live, &test] {
        client.get("/api/ledger/merchant:shop~test").problem(404, "account_not_found");
    }
    let admin = server.admin();
    assert_eq!(admin.balance("merchant:shop", "USD"), (500, 0));
    assert_eq!(admin.balance("merchant:shop~test", "USD"), (900, 0));
    let listed = |merchant: &str| admin.all(&format!("/api/payments?merchantId={merchant}"));
    assert_eq!((listed("shop").len(), listed("shop~test").len()), (1, 1));
    for (client, id) in [(&live, real.id()), (&test, tried.id())] {
        let payments = client.all("/api/payments");
        assert_eq!((payments.len(), payments[0]["id"].as_str()), (1, Some(id.as_str())));
        let events = client.all("/api/events");
        assert_eq!((events.len(), events[0]["data"]["id"].as_str()), (1, Some(id.as_str())));
    }
    let body = json!({"merchantId": "shop", "amount": 5, "currency": "USD"});
    test.pay("named", &body).of(201);
    for (client, mode) in [(&live, Value::Null), (&test, json!("test"))] {
        let hook = json!({"url": "http://127.0.0.1:1/"});
        let made = client.post("/api/webhook-endpoints", "", &hook).of(201);
        assert_eq!((&made.json["mode"], &made.json["merchantId"]), (&mode, &json!("shop")));
        let own = client.all("/api/webhook-endpoints");
        assert_eq!((own.len(), own[0]["id"].as_str()), (1, Some(made.id().as_str())));
    }
    server.admin().reconciles();
}

#[test]
fn a_customers_account_is_shown_as_the_merchant_calls_it_and_without_what_was_only_tried_out() {
    let server = TestServer::start();
    shop(&server);
    let live = client(&server, &make_key(&server, &json!({"label": "l"})));
    let test = client(&server, &make_key(&server, &json!({"label": "t", "mode": "test"})));
    let pay = |client: &Client, customer: &str, amount: i64| {
        let body = json!({"amount": amount, "currency": "USD", "customerId": customer});
        client.pay(&format!("{customer}-{amount}"), &body).of(201);
    };
    pay(&live, "bob", 5);
    pay(&test, "bob", 700);
    // A merchant may call its customer anything.
    pay(&live, "eve~test", 9);
    for (client, customer, balance) in [
        (&live, "bob", -5),
        (&test, "bob", -700),
        (&live, "eve~test", -9),
        (&server.admin(), "bob", -5),
        (&server.admin(), "eve~test", -9),
    ] {
        let name = format!("customer:{customer}");
        let account = client.get(&format!("/api/ledger/{name}")).of(200).json;
        assert_eq!(account["balances"][0]["balance"], balance, "{account:#}");
        let entries = account["entries"].as_array().unwrap();
        assert_eq!((entries.len(), &entries[0]["accountId"]), (1, &json!(name)));
    }
    assert_eq!(test.balance("customer:eve~test", "USD"), (0, 0));
}

/// The head of a POST, which the server has read and taken, but for its body.
fn begin(server: &TestServer, path: &str, key: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: slow\r\n\
         Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut goes_on = [0; 25];
    stream.read_exact(&mut goes_on).unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn what_is_taken_back_while_a_request_comes_in_is_taken_back_for_that_request_too() {
    let server = TestServer::start();
    shop(&server);
    let admin = server.admin();
    let stolen = admin.post("/api/admin-keys", "", &json!({"label": "stolen"})).of(201).json;
    let lost = make_key(&server, &json!({"label": "lost"}));
    let stays = make_key(&server, &json!({"label": "stays"}));
    let label = json!({"label": "back door"}).to_string();
    let charge = json!({"amount": 5, "currency": "USD"}).to_string();
    let hook = json!({"url": "http://127.0.0.1:1/"}).to_string();
    let posts = [
        ("/api/admin-keys", &stolen, &label, "unauthenticated"),
        ("/api/merchants/shop/keys", &stolen, &label, "unauthenticated"),
        ("/api/payments", &lost, &charge, "unauthenticated"),
        ("/api/webhook-endpoints", &lost, &hook, "unauthenticated"),
        ("/api/payments", &stays, &charge, "merchant_disabled"),
    ];
    let begun =
        posts.map(|(path, key, body, _)| begin(&server, path, key["key"].as_str().unwrap(), body));
    let path = |key: &Value, of: &str| format!("{of}/{}", key["id"].as_str().unwrap());
    admin.delete(&path(&stolen, "/api/admin-keys")).of(200);
    admin.delete(&path(&lost, "/api/merchants/shop/keys")).of(200);
    admin.patch("/api/merchants/shop", &json!({"enabled": false})).of(200);
    for (mut stream, (path, _, body, code)) in begun.into_iter().zip(posts) {
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{path}: {answer}");
    }
    assert_eq!(admin.all("/api/admin-keys").len(), 1);
    assert_eq!(admin.all("/api/merchants/shop/keys").len(), 2);
    assert_eq!(admin.all("/api/payments").len(), 0);
    assert_eq!(admin.all("/api/webhook-endpoints").len(), 0);
}

#[test]
fn of_those_who_change_the_same_thing_at_once_none_takes_back_what_another_did() {
    let server = TestServer::start();
    shop(&server);
    let admin = server.admin();
    let twin = json!({"id": "twin"});
    let mut made = at_once(4, |_| admin.post("/api/merchants", "", &twin).status);
    made.sort_unstable();
    assert_eq!(made, [201, 409, 409, 409], "made once");
    let changes = [json!({"enabled": false}), json!({"name": "Shop 2"})];
    for _ in 0..20 {
        admin.patch("/api/merchants/shop", &json!({"enabled": true, "name": "Shop 1"})).of(200);
        at_once(2, |number| admin.patch("/api/merchants/shop", &changes[number]).of(200));
        let stands = admin.get("/api/merchants/shop").of(200).json;
        assert_eq!((&stands["enabled"], &stands["name"]), (&json!(false), &json!("Shop 2")));
        let key = make_key(&server, &json!({"label": "lost"}));
        let path = format!("/api/merchants/shop/keys/{}", key["id"].as_str().unwrap());
        let answers = at_once(4, |_| admin.delete(&path).of(200).body);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "revoked once");
    }
}

#[test]
fn what_the_configuration_says_of_a_merchant_holds_before_what_the_api_made() {
    let mut server = TestServer::start();
    shop(&server);
    let admin = server.admin();
    let path = "/api/merchants/merchant_2/keys";
    let theirs = admin.post(path, "", &json!({"label": "web"})).of(201).json;
    let ours = make_key(&server, &json!({"label": "web"}));
    admin.patch("/api/merchants/shop", &json!({"enabled": false})).of(200);
    client(&server, &theirs).charge("order", 5).of(201);
    client(&server, &ours).charge("order", 5).problem(403, "merchant_disabled");
    server.terminate();
    let file = server.path("strongroom.toml");
    let before = fs::read_to_string(&file).unwrap();
    let without = before.replace("id = \"merchant_2\"", "id = \"shop\"");
    assert_ne!(without, before);
    fs::write(&file, without).unwrap();
    server.restart();
    let admin = server.admin();
    admin.get("/api/merchants/merchant_2").problem(404, "merchant_not_found");
    client(&server, &theirs).get("/api/payments").problem(401, "unauthenticated");
    let listed = admin.all("/api/merchants?limit=1");
    let listed: Vec<_> = listed.iter().map(|it| (&it["id"], &it["origin"])).collect();
    let names = [json!("merchant_1"), json!("shop")];
    assert_eq!(listed, [(&names[0], &json!("config")), (&names[1], &json!("config"))]);
    let configured = admin.get("/api/merchants/shop").of(200).json;
    assert_eq!((&configured["enabled"], &configured["origin"]), (&json!(true), &json!("config")));
    client(&server, &ours).charge("order", 5).of(201);
    server.terminate();
    fs::write(&file, before).unwrap();
    server.restart();
    client(&server, &theirs).charge("again", 5).of(201);
    client(&server, &ours).charge("again", 5).problem(403, "merchant_disabled");
}

#[test]
fn a_key_is_revoked_at_once_and_for_good_and_one_that_expires_ends_by_itself() {
    let clock = Clock::new();
    let mut server = TestServer::start_with(&[clock.setting()]);
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
    clock.has_passed(HOUR);
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
    let hook = second.post("/api/webhook-endpoints", "", &hook).of(201).id();
    second.post(&format!("/api/webhook-endpoints/{hook}/test"), "", &json!({})).of(200);
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
                format!("{ops} test of {hook} asked for"),
                format!("{ops} webhook endpoint created"),
                format!("{ops} snapshot asked for"),
                format!("{ops} reconciliation asked for"),
                format!("{ops} payment charged"),
                format!("{ops} merchant made"),
                "admin/test key made".to_owned(),
            ]
        );
        assert_eq!(deeds[5]["subject"], paid);
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
    server.client(text).get("/api/audit").problem(401, "unauthenticated");
    assert_eq!(deeds.len(), 9, "with the last snapshot");
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
    // Whether the key has been revoked since is not on books that are only shown.
    let shown = server.beside(&["--read-only"]);
    let with_key = shown.client(key["key"].as_str().unwrap());
    with_key.get("/api/payments").problem(401, "unauthenticated");
    shown.client(ADMIN_KEY).get("/api/merchants/shop/keys").of(200);
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
    let alarms = server.admin().get("/ready").of(200).json["alarms"].clone();
    assert_eq!(alarms[0]["code"], "keys.pepper_lost");
    server.terminate();
    fs::write(&pepper, kept).unwrap();
    server.restart();
    client(&server, &key).charge("order", 5).of(201);
    assert_eq!(server.admin().get("/ready").of(200).json["alarms"], Value::Null);
}
