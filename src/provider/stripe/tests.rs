//! Calls from end to end, against a server that says what it is told to and keeps what it hears.

use super::*;
use crate::{
    domain::{
        event::Details,
        id::{DerivedId, Kind},
        money::Currency,
        time::Timestamp,
    },
    provider::{ChargeState, Fact, RefundState, ask},
};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};
use uuid::Uuid;

const NOW_MS: u64 = 1_795_000_000_000;
const SECRET: &str = "whsec_1";

/// What the server says to the next request.
enum Say {
    Json(u16, Value),
    Garbage,
    Close,
    Reset,
}

/// A request, as it was heard: `POST /path?query`, its headers but for those that no caller chooses, its body.
#[derive(Debug)]
struct Asked {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A provider whose server says these things in turn, and what the server hears.
fn provider(says: Vec<Say>) -> (Stripe, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (asked, heard) = channel();
    thread::spawn(move || {
        let mut says = says.into_iter();
        for connection in listener.incoming() {
            drop(serve(&connection.unwrap(), &mut says, &asked));
        }
    });
    (at(url), heard)
}

fn at(url: String) -> Stripe {
    let webhook_secret = Some(SECRET.into());
    let settings = Settings { url, secret_key: "sk_test_1".into(), webhook_secret };
    Stripe::new(settings, crate::trust::tls(), 2)
}

fn serve(
    connection: &TcpStream,
    says: &mut impl Iterator<Item = Say>,
    asked: &Sender<Asked>,
) -> io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    while let Some(request) = hear(&mut reader)? {
        asked.send(request).unwrap();
        let (status, body) = match says.next().unwrap() {
            Say::Json(status, body) => (status, body.to_string()),
            Say::Garbage => (200, "<html>".to_owned()),
            Say::Close => return Ok(()),
            Say::Reset => {
                return Ok(rustix::net::sockopt::set_socket_linger(
                    connection,
                    Some(Duration::ZERO),
                )?);
            }
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut writer: &TcpStream = connection;
        writer.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

fn hear(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).replace(" HTTP/1.1", "");
    let length = lines
        .iter()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();
    let mut headers: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let unchosen = ["host:", "date:", "content-length:"];
    headers.retain(|line| unchosen.iter().all(|name| !line.starts_with(name)));
    headers.sort();
    Ok(Some(Asked { line, headers, body }))
}

fn call(action: Action, capture: CaptureMode) -> Call {
    let id = PaymentId::new(Uuid::from_u128(7));
    let began = Timestamp::from_millis(NOW_MS);
    let details = Details {
        id,
        merchant: "shop".into(),
        amount: Amount::new(500).unwrap(),
        currency: Currency::for_payment("UGX").unwrap(),
        capture,
        payment_method: "pm_card_visa".into(),
        customer: None,
        description: Some("never sent".into()),
        metadata: Box::default(),
        provider: "stripe".into(),
        hold_ms: 1,
    };
    Call {
        attempt: DerivedId::new(Kind::Attempt, began, 42),
        details: Arc::new(details),
        action,
        reference: if action == Action::Authorize { "".into() } else { "pi_1".into() },
        began,
        quiet_for: Duration::ZERO,
    }
}

fn authorize() -> Call {
    call(Action::Authorize, CaptureMode::Automatic)
}

fn amount() -> Amount {
    Amount::new(300).unwrap()
}

fn capture() -> Call {
    call(Action::Capture { amount: amount(), released: 200 }, CaptureMode::Manual)
}

fn refund() -> Call {
    call(Action::Refund { amount: amount() }, CaptureMode::Automatic)
}

fn ours(call: &Call) -> Value {
    json!({
        "strongroom_attempt": call.attempt.to_string(),
        "strongroom_payment": call.details.id.to_string(),
    })
}

fn intent(status: &str, received: i64) -> Say {
    Say::Json(
        200,
        json!({
            "id": "pi_1", "object": "payment_intent", "status": status, "currency": "ugx",
            "amount": 50_000, "amount_received": received, "amount_capturable": 50_000,
            "metadata": ours(&authorize()), "last_payment_error": null,
        }),
    )
}

fn stripes_refund(status: &str, metadata: &Value) -> Value {
    json!({
        "id": "re_1", "object": "refund", "status": status, "currency": "ugx", "amount": 30_000,
        "payment_intent": "pi_1", "metadata": metadata,
    })
}

fn no(status: u16, code: &str) -> Say {
    Say::Json(status, json!({"error": {"type": "invalid_request_error", "code": code}}))
}

fn list(ids: &[&str], call: &Call, has_more: bool) -> Say {
    let metadata = |id: &str| if id.starts_with("other") { json!({}) } else { ours(call) };
    let data: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "metadata": metadata(id)})).collect();
    Say::Json(200, json!({"data": data, "has_more": has_more}))
}

fn done(reference: &str, amount: i64) -> Answer {
    Answer::Done { reference: reference.into(), amount }
}

fn declined(decline: Decline, code: &str) -> Answer {
    Answer::Declined { decline, code: code.into() }
}

/// The method and path of everything that was heard.
fn lines(heard: &Receiver<Asked>) -> Vec<String> {
    heard.try_iter().map(|asked| asked.line).collect()
}

#[actix_rt::test]
async fn an_authorization_sends_exactly_these_headers_and_fields() {
    let (stripe, heard) = provider(vec![intent("succeeded", 50_000)]);
    assert_eq!(ask(&stripe, &authorize()).await, done("pi_1", 500));
    let asked = heard.recv().unwrap();
    let attempt = authorize().attempt.to_string();
    assert_eq!(asked.line, "POST /v1/payment_intents");
    let expected = [
        "accept-encoding: identity".to_owned(),
        "authorization: bearer sk_test_1".to_owned(),
        "content-type: application/x-www-form-urlencoded".to_owned(),
        format!("idempotency-key: {attempt}"),
        "stripe-version: 2024-10-28.acacia".to_owned(),
        format!("user-agent: strongroom/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(asked.headers, expected);
    let payment = authorize().details.id;
    let body = format!(
        "amount=50000&currency=ugx&payment_method=pm_card_visa&payment_method_types%5B0%5D=card\
         &capture_method=automatic&confirm=true&metadata%5Bstrongroom_attempt%5D={attempt}\
         &metadata%5Bstrongroom_payment%5D={payment}"
    );
    assert_eq!(asked.body, body);
}

#[actix_rt::test]
async fn a_change_names_the_payment_intent_and_how_much() {
    let says = vec![
        intent("succeeded", 30_000),
        intent("canceled", 0),
        Say::Json(200, stripes_refund("succeeded", &ours(&refund()))),
    ];
    let (stripe, heard) = provider(says);
    assert_eq!(ask(&stripe, &capture()).await, done("pi_1", 300));
    assert_eq!(ask(&stripe, &call(Action::Expire, CaptureMode::Manual)).await, done("pi_1", 0));
    assert_eq!(ask(&stripe, &refund()).await, done("re_1", 300));
    let sent: Vec<_> = heard.try_iter().map(|asked| (asked.line, asked.body)).collect();
    let (attempt, payment) = (refund().attempt, refund().details.id);
    let expected = [
        ("POST /v1/payment_intents/pi_1/capture", "amount_to_capture=30000".to_owned()),
        ("POST /v1/payment_intents/pi_1/cancel", String::new()),
        (
            "POST /v1/refunds",
            format!(
                "payment_intent=pi_1&amount=30000&metadata%5Bstrongroom_attempt%5D={attempt}\
                 &metadata%5Bstrongroom_payment%5D={payment}"
            ),
        ),
    ];
    assert_eq!(sent, expected.map(|(line, body)| (line.to_owned(), body)));
}

#[actix_rt::test]
async fn a_call_that_finds_no_server_is_not_processed() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = ask(&at(format!("http://{nobody}")), &authorize()).await;
    assert_eq!(answer, Answer::NotProcessed { code: "connection_failed".into() });
    let answer = ask(&at("http://no-such-host.invalid".to_owned()), &authorize()).await;
    assert_eq!(answer, Answer::NotProcessed { code: "host_not_found".into() });

    let insecure = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = insecure.local_addr().unwrap();
    thread::spawn(move || {
        for connection in insecure.incoming() {
            drop(connection.unwrap().write(b"220 hello"));
        }
    });
    let answer = ask(&at(format!("https://{address}")), &authorize()).await;
    assert_eq!(answer, Answer::NotProcessed { code: "connection_failed".into() });
}

#[actix_rt::test]
async fn a_call_that_was_sent_and_not_answered_is_unknown() {
    let Say::Json(_, mut long) = intent("succeeded", 50_000) else { panic!() };
    long["description"] = "x".repeat(256 * 1024).into();
    for say in [
        Say::Close,
        Say::Reset,
        Say::Garbage,
        Say::Json(200, long),
        no(500, ""),
        no(409, "lock_timeout"),
    ] {
        let (stripe, heard) = provider(vec![intent("succeeded", 50_000), say]);
        assert_eq!(ask(&stripe, &authorize()).await, done("pi_1", 500));
        // On the connection that is open now.
        let answer = ask(&stripe, &authorize()).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
        assert_eq!(lines(&heard).len(), 2, "nothing is sent again");
    }
}

#[actix_rt::test]
async fn an_amount_that_stripe_cannot_count_is_declined_without_a_call() {
    let (stripe, heard) = provider(vec![]);
    let mut call = authorize();
    let mut details = (*call.details).clone();
    details.currency = Currency::for_payment("LYD").unwrap();
    call.details = Arc::new(details);
    let answer = ask(&stripe, &call).await;
    assert_eq!(answer, declined(Decline::AmountUnsupported, "currency_not_supported"));
    assert_eq!(lines(&heard).len(), 0);
}

#[actix_rt::test]
async fn what_waits_for_the_customer_is_cancelled_and_declined() {
    let says = vec![intent("requires_action", 0), intent("canceled", 0)];
    let (stripe, heard) = provider(says);
    let answer = ask(&stripe, &authorize()).await;
    assert_eq!(answer, declined(Decline::AuthenticationRequired, "requires_action"));
    heard.recv().unwrap();
    let cancel = heard.recv().unwrap();
    assert_eq!((&*cancel.line, &*cancel.body), ("POST /v1/payment_intents/pi_1/cancel", ""));
    assert!(cancel.headers.contains(&format!("idempotency-key: {}_cancel", authorize().attempt)));

    for not_cancelled in [intent("requires_action", 0), no(400, "odd"), no(500, ""), Say::Close] {
        let (stripe, _heard) = provider(vec![intent("requires_confirmation", 0), not_cancelled]);
        let answer = ask(&stripe, &authorize()).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
}

#[actix_rt::test]
async fn a_change_that_comes_too_late_is_answered_by_how_the_payment_intent_stands() {
    let unexpected = "payment_intent_unexpected_state";
    let unknown = |answer: &Answer| matches!(answer, Answer::Unknown { .. });
    for (stands, expected) in [
        (intent("succeeded", 30_000), done("pi_1", 300)),
        (intent("canceled", 0), declined(Decline::AuthorizationGone, unexpected)),
        (intent("requires_capture", 0), declined(Decline::ProviderRejected, unexpected)),
        (intent("succeeded", 30_001), Answer::unknown("no whole number of ours")),
        (intent("processing", 0), Answer::Working),
        (no(500, ""), Answer::unknown("no answer")),
    ] {
        let (stripe, heard) = provider(vec![no(400, unexpected), stands]);
        let answer = ask(&stripe, &capture()).await;
        assert!(answer == expected || (unknown(&answer) && unknown(&expected)), "{answer:?}");
        assert_eq!(lines(&heard)[1], "GET /v1/payment_intents/pi_1");
    }
    let (stripe, _heard) = provider(vec![intent("requires_capture", 0)]);
    let answer = ask(&stripe, &capture()).await;
    assert!(unknown(&answer), "accepted, and still held: {answer:?}");
}

#[actix_rt::test]
async fn an_object_of_another_attempt_is_no_answer() {
    let mut other = authorize();
    other.attempt.sequence = 43;
    let says = vec![
        intent("succeeded", 50_000),
        intent("requires_action", 0),
        Say::Json(200, stripes_refund("succeeded", &ours(&other))),
    ];
    let (stripe, heard) = provider(says);
    for call in [&other, &other, &refund()] {
        let answer = ask(&stripe, call).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
    assert_eq!(lines(&heard).len(), 3, "nor is it cancelled");
}

#[actix_rt::test]
async fn an_authorization_is_found_by_search_and_then_read() {
    let call = authorize();
    let says = vec![list(&["pi_1"], &call, false), intent("succeeded", 50_000)];
    let (stripe, heard) = provider(says);
    assert_eq!(stripe.look_up(&call).await, done("pi_1", 500));
    let query = format!("metadata%5B%27strongroom_attempt%27%5D%3A%27{}%27", call.attempt);
    let search = format!("GET /v1/payment_intents/search?query={query}&limit=100");
    assert_eq!(lines(&heard), [&*search, "GET /v1/payment_intents/pi_1"]);

    let (stripe, _heard) = provider(vec![list(&["pi_1", "pi_2"], &call, false)]);
    let two = "the provider did it twice: pi_1 and pi_2";
    assert_eq!(stripe.look_up(&call).await, Answer::unknown(two));
}

#[actix_rt::test]
async fn what_the_search_does_not_find_is_looked_for_in_the_list() {
    let call = authorize();
    let page = |ids: &[&str], more| list(ids, &call, more);
    let first = "GET /v1/payment_intents?created%5Bgte%5D=1794999700&limit=100";
    let second =
        "GET /v1/payment_intents?created%5Bgte%5D=1794999700&starting_after=other_2&limit=100";
    let none = || page(&[], false);
    let endless = || (0..10).map(|_| page(&["other_1"], true));

    let says = vec![
        none(),
        page(&["other_1", "other_2"], true),
        page(&["pi_1"], false),
        intent("succeeded", 50_000),
    ];
    let (stripe, heard) = provider(says);
    assert_eq!(stripe.look_up(&call).await, done("pi_1", 500));
    assert_eq!(lines(&heard)[1..], [first, second, "GET /v1/payment_intents/pi_1"]);

    for says in [
        vec![none(), page(&["other_1"], false)],
        vec![no(404, ""), page(&["other_1"], false)],
        vec![no(404, ""), no(400, ""), none()],
    ] {
        let (stripe, _heard) = provider(says);
        assert_eq!(stripe.look_up(&call).await, Answer::Absent);
    }
    // Only the search is whole: it counts once it can't be behind any more.
    let quiet_for = SEARCH_BEHIND_MAX;
    for has_a_list in [true, false] {
        let says = || match has_a_list {
            true => [none()].into_iter().chain(endless()).collect(),
            false => vec![none(), no(404, ""), no(404, "")],
        };
        let (stripe, _heard) = provider(says());
        assert_eq!(stripe.look_up(&Call { quiet_for, ..call.clone() }).await, Answer::Absent);
        let (stripe, _heard) = provider(says());
        let quiet_for = quiet_for - Duration::from_millis(1);
        let answer = stripe.look_up(&Call { quiet_for, ..call.clone() }).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
    for says in [
        vec![no(500, "")],
        vec![no(429, "rate_limit")],
        vec![Say::Close],
        vec![none(), no(500, "")],
        vec![no(404, ""), no(404, ""), no(404, "")],
        vec![no(404, ""), page(&[], true)],
        [no(404, "")].into_iter().chain(endless()).collect(),
    ] {
        let (stripe, _heard) = provider(says);
        let answer = stripe.look_up(&call).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
}

#[actix_rt::test]
async fn a_look_up_of_a_change_reads_the_payment_intent_or_the_refund() {
    let (stripe, heard) =
        provider(vec![intent("requires_capture", 0), intent("succeeded", 30_000)]);
    assert_eq!(stripe.look_up(&capture()).await, Answer::Absent);
    assert_eq!(stripe.look_up(&capture()).await, done("pi_1", 300));
    assert_eq!(lines(&heard), ["GET /v1/payment_intents/pi_1"; 2]);

    let made = |status| Say::Json(200, stripes_refund(status, &ours(&refund())));
    let found = || list(&["other_1", "re_1"], &refund(), false);
    let (stripe, heard) = provider(vec![found(), made("succeeded")]);
    assert_eq!(stripe.look_up(&refund()).await, done("re_1", 300));
    let expected = ["GET /v1/refunds?payment_intent=pi_1&limit=100", "GET /v1/refunds/re_1"];
    assert_eq!(lines(&heard), expected);
    let (stripe, _heard) = provider(vec![found(), made("failed")]);
    assert_eq!(stripe.look_up(&refund()).await, declined(Decline::ProcessingError, "failed"));
    let (stripe, _heard) = provider(vec![list(&["other_1"], &refund(), false)]);
    assert_eq!(stripe.look_up(&refund()).await, Answer::Absent);
}

fn message(kind: &str, object: &Value) -> Message {
    let event = json!({"id": "evt_1", "type": kind, "data": {"object": object}});
    let body = event.to_string().into_bytes();
    let signature = signature::sign(SECRET, &body, NOW_MS / 1000).into();
    Message { signature, body: body.into(), at: Timestamp::from_millis(NOW_MS) }
}

#[actix_rt::test]
async fn a_refund_made_elsewhere_leads_to_its_payment_by_the_payment_intent() {
    let message = message("refund.created", &stripes_refund("succeeded", &json!({})));
    let payment = Some(authorize().details.id);
    for (say, expected) in [
        (intent("succeeded", 50_000), Ok((payment, 300))),
        (no(404, "resource_missing"), Ok((None, 30_000))),
        (no(500, ""), Err(NotRead::Unavailable)),
        (Say::Close, Err(NotRead::Unavailable)),
    ] {
        let (stripe, heard) = provider(vec![say]);
        let fact = |amount| Fact::Refund {
            attempt: None,
            reference: "re_1".into(),
            amount,
            state: RefundState::Done,
        };
        let news = |(payment, amount)| {
            let currency = Currency::for_payment("UGX");
            vec![News { event: "evt_1".into(), payment, currency, fact: fact(amount) }]
        };
        assert_eq!(stripe.read(&message).await, expected.map(news));
        assert_eq!(lines(&heard), ["GET /v1/payment_intents/pi_1"]);
    }
}

#[actix_rt::test]
async fn a_message_is_read_only_if_it_is_proven_to_be_stripes() {
    let Say::Json(_, object) = intent("requires_capture", 0) else { panic!() };
    let (stripe, _heard) = provider(vec![]);
    let mut message = message("payment_intent.amount_capturable_updated", &object);
    let news = stripe.read(&message).await.unwrap();
    let (attempt, reference) = (Some(authorize().attempt), "pi_1".into());
    assert_eq!(news[0].fact, Fact::Charge { attempt, reference, state: ChargeState::Held(500) });

    let settings =
        Settings { url: "http://x".into(), secret_key: "sk".into(), webhook_secret: None };
    let deaf = Stripe::new(settings, crate::trust::tls(), 1);
    assert_eq!(deaf.read(&message).await, Err(NotRead::Unproven), "there is no secret");
    message.body = [&*message.body, b" "].concat().into();
    assert_eq!(stripe.read(&message).await, Err(NotRead::Unproven));
}

#[test]
fn the_settings_do_not_show_their_secrets() {
    let webhook_secret = Some(SECRET.into());
    let settings =
        Settings { url: "https://x".into(), secret_key: "sk_live_1".into(), webhook_secret };
    assert_eq!(format!("{settings:?}"), r#"Settings { url: "https://x", .. }"#);
}
