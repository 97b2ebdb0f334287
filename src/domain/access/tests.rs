//! Merchants and keys, record by record.

use super::*;
use uuid::Uuid;

fn id(number: u128) -> KeyId {
    KeyId::new(Uuid::from_u128(number))
}

fn key(number: u128, holder: Holder, mode: Mode) -> AccessEvent {
    AccessEvent::KeyMade(Box::new(Key {
        id: id(number),
        holder,
        mode,
        label: "till".into(),
        scopes: Scope::ALL.into(),
        expires_at: Some(Timestamp::from_millis(100)),
        digest: [7; 32],
    }))
}

fn record(access: &mut Access, event: AccessEvent) -> Result<(), Misfit> {
    let record = AccessRecord { actor: "admin/test".into(), event };
    access.check(&record)?;
    access.apply(&record, Timestamp::from_millis(1));
    Ok(())
}

fn shop() -> Holder {
    Holder::Merchant("shop".into())
}

#[test]
fn a_key_opens_from_when_it_is_made_until_it_expires_or_is_revoked() {
    let mut access = Access::default();
    record(&mut access, key(1, shop(), Mode::Live)).unwrap();
    let at = Timestamp::from_millis;
    assert!(access.key(id(1)).unwrap().opens(at(99)));
    assert!(!access.key(id(1)).unwrap().opens(at(100)));
    assert!(access.has_keys());
    let revoked = |holder| AccessEvent::KeyRevoked { id: id(1), holder };
    assert_eq!(record(&mut access, revoked(Holder::Admin)), Err(Misfit::NoSuchKey(id(1))));
    record(&mut access, revoked(shop())).unwrap();
    assert!(!access.key(id(1)).unwrap().opens(at(2)));
    assert!(!access.has_keys());
    assert_eq!(record(&mut access, revoked(shop())), Err(Misfit::NoSuchKey(id(1))));
    assert_eq!(record(&mut access, key(1, shop(), Mode::Live)), Err(Misfit::KeyExists(id(1))));
}

#[test]
fn a_key_for_test_payments_is_of_another_merchant_inside() {
    let mut access = Access::default();
    record(&mut access, key(1, shop(), Mode::Live)).unwrap();
    record(&mut access, key(2, shop(), Mode::Test)).unwrap();
    record(&mut access, key(3, Holder::Admin, Mode::Live)).unwrap();
    let merchant = |number| access.key(id(number)).unwrap().merchant.clone();
    assert_eq!(merchant(1).as_deref(), Some("shop"));
    assert_eq!(merchant(2).as_deref(), Some("shop~test"));
    assert_eq!(merchant(3), None);
    assert_eq!((name_outside("shop~test"), is_test("shop~test")), ("shop", true));
    assert_eq!((name_outside("shop"), is_test("shop")), ("shop", false));
    assert_eq!(access.keys_of(&shop()).count(), 2);
}

#[test]
fn merchants_are_made_once_and_changed_and_a_holder_has_so_many_keys_at_most() {
    let mut access = Access::default();
    let made = || AccessEvent::MerchantMade { id: "shop".into(), name: None };
    let changed = |id: &str| {
        let (id, name) = (id.into(), Some("The Shop".into()));
        AccessEvent::MerchantChanged { id, name, enabled: false }
    };
    assert_eq!(record(&mut access, changed("shop")), Err(Misfit::NoSuchMerchant("shop".into())));
    record(&mut access, made()).unwrap();
    assert_eq!(record(&mut access, made()), Err(Misfit::MerchantExists("shop".into())));
    record(&mut access, changed("shop")).unwrap();
    let stands = |access: &Access| {
        let (_, merchant) = access.merchant("shop").unwrap();
        (merchant.name.as_deref().map(str::to_owned), merchant.enabled)
    };
    assert_eq!(stands(&access), (Some("The Shop".to_owned()), false));
    let set = |id: &str, name: Option<&str>, enabled| {
        let (id, name) = (id.into(), name.map(Box::from));
        AccessEvent::MerchantSet { id, name, enabled }
    };
    let unknown = record(&mut access, set("other", None, Some(true)));
    assert_eq!(unknown, Err(Misfit::NoSuchMerchant("other".into())));
    record(&mut access, set("shop", Some("Shop 2"), None)).unwrap();
    assert_eq!(stands(&access), (Some("Shop 2".to_owned()), false), "it stays disabled");
    record(&mut access, set("shop", None, Some(true))).unwrap();
    assert_eq!(stands(&access), (Some("Shop 2".to_owned()), true), "it keeps its name");
    for number in 0..KEYS_MAX {
        record(&mut access, key(u128::try_from(number).unwrap(), shop(), Mode::Live)).unwrap();
    }
    let more = record(&mut access, key(1000, shop(), Mode::Live));
    assert_eq!(more, Err(Misfit::TooManyKeys(KEYS_MAX)));
    record(&mut access, AccessEvent::KeyRevoked { id: id(5), holder: shop() }).unwrap();
    record(&mut access, key(1000, shop(), Mode::Live)).unwrap();
}

#[test]
fn so_many_merchants_are_made_and_no_more() {
    let mut access = Access::default();
    let made = |number: usize| {
        let id = format!("m{number}");
        AccessEvent::MerchantMade { id: id.into(), name: None }
    };
    for number in 1..=MERCHANTS_MAX {
        record(&mut access, made(number)).unwrap();
    }
    let more = record(&mut access, made(MERCHANTS_MAX + 1));
    assert_eq!(more, Err(Misfit::TooManyMerchants(MERCHANTS_MAX)));
}

#[test]
fn merchants_are_listed_by_name_from_behind_one() {
    let mut access = Access::default();
    assert!(!access.has_keys());
    for id in ["north", "east", "south"] {
        record(&mut access, AccessEvent::MerchantMade { id: id.into(), name: None }).unwrap();
    }
    let names = |after| access.merchants(after).map(|(id, _)| &**id).collect::<Vec<&str>>();
    assert_eq!(names(None), ["east", "north", "south"]);
    assert_eq!(names(Some("east")), ["north", "south"]);
    assert_eq!(names(Some("f")), ["north", "south"]);
}

#[test]
fn every_mode_and_scope_is_read_by_its_own_name() {
    for mode in Mode::ALL {
        assert_eq!(Mode::parse(mode.name()), Some(mode));
    }
    for scope in Scope::ALL {
        assert_eq!(Scope::parse(scope.name()), Some(scope));
    }
    assert_eq!((Mode::parse(""), Scope::parse("payments")), (None, None));
}
