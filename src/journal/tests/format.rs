//! The format on disk: golden bytes, and no bytes that break the decoders.

use super::*;
use crate::{
    domain::{
        entry::{Hash, Record},
        id::{PaymentId, Sequence},
        idempotency::{Fingerprint, Key, Operation, Request},
        webhook::{WebhookEvent, WebhookRecord},
    },
    journal::{
        buffer::AlignedBuffer,
        entry, frame, segment,
        watermark::{self, Watermark},
    },
};
use proptest::prelude::*;

const GOLDEN_SEGMENT: &[u8] =
    include_bytes!("../../../tests/golden/journal-v1/00000000000000000001.seg");
const GOLDEN_WATERMARK: &[u8] = include_bytes!("../../../tests/golden/journal-v1/watermark");

/// Records of kinds that came later: each file is one batch's entries, encoded one after the other.
const GOLDEN_WEBHOOKS: &[u8] = include_bytes!("../../../tests/golden/journal-v1/webhooks.entries");

#[test]
fn what_this_release_writes_about_webhooks_is_format_1_to_the_byte() {
    let written: Vec<u8> = samples::webhooks().iter().flat_map(encoded).collect();
    let differs = written.iter().zip(GOLDEN_WEBHOOKS).position(|(a, b)| a != b);
    assert_eq!((differs, written.len()), (None, GOLDEN_WEBHOOKS.len()));
}

#[test]
fn what_format_1_holds_about_webhooks_is_read_as_it_was_meant() {
    let mut rest = GOLDEN_WEBHOOKS;
    for expected in samples::webhooks() {
        let (record, behind) = entry::decode(rest).unwrap();
        assert_eq!(record, expected);
        rest = behind;
    }
    assert!(rest.is_empty());
}

const GOLDEN_ACCESS: &[u8] = include_bytes!("../../../tests/golden/journal-v2/access.entries");
const GOLDEN_ATTEMPTS: &[u8] = include_bytes!("../../../tests/golden/journal-v2/attempts.entries");

#[test]
fn what_this_release_writes_about_attempts_and_access_is_format_2_to_the_byte() {
    for (samples, golden) in
        [(samples::attempts(), GOLDEN_ATTEMPTS), (samples::access(), GOLDEN_ACCESS)]
    {
        let written: Vec<u8> = samples.iter().flat_map(encoded).collect();
        let differs = written.iter().zip(golden).position(|(a, b)| a != b);
        assert_eq!((differs, written.len()), (None, golden.len()));
    }
}

#[test]
fn what_format_2_holds_about_attempts_and_access_is_read_as_it_was_meant() {
    for (samples, golden) in
        [(samples::attempts(), GOLDEN_ATTEMPTS), (samples::access(), GOLDEN_ACCESS)]
    {
        let mut rest = golden;
        for expected in samples {
            let (record, behind) = entry::decode(rest).unwrap();
            assert_eq!(record, expected);
            rest = behind;
        }
        assert!(rest.is_empty());
    }
}

/// The journal in the golden folder: a start, a batch with every kind of record, a seal.
fn write_golden() -> (SimulatedDisk, Vec<Batch>) {
    let disk = SimulatedDisk::default();
    let (recovered, mut batches) = open(&disk, at(0)).unwrap();
    let mut writer = recovered.writer;
    batches.push(writer.append(samples::all(), at(1)).unwrap());
    batches.push(writer.append(vec![Record::Sealed], at(100)).unwrap());
    (disk, batches)
}

#[test]
fn what_this_release_writes_is_format_1_to_the_byte() {
    let (disk, _) = write_golden();
    let segment = disk.bytes_of(FIRST).unwrap();
    let differs = segment.iter().zip(GOLDEN_SEGMENT).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first byte that differs");
    assert_eq!(segment.len(), GOLDEN_SEGMENT.len());
    assert_eq!(disk.bytes_of(watermark::FILE).unwrap(), GOLDEN_WATERMARK);
}

#[test]
fn what_format_1_holds_is_read_as_it_was_meant() {
    let (_, batches) = write_golden();
    let disk = SimulatedDisk::default();
    disk.put(FIRST, GOLDEN_SEGMENT);
    disk.put(watermark::FILE, GOLDEN_WATERMARK);
    let (recovered, read) = open(&disk, at(200)).unwrap();
    assert_eq!(read[..3], batches);
    assert_eq!(recovered.report.store, STORE);
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut buffer = AlignedBuffer::with_capacity(entry::RECORD_BYTES_MAX + 100);
    entry::encode(record, &mut buffer).unwrap();
    buffer.to_vec()
}

/// A record of any kind with any texts and numbers.
fn any_record() -> impl Strategy<Value = Record> {
    let samples =
        [samples::all(), samples::webhooks(), samples::attempts(), samples::access()].concat();
    let texts = (".{0,40}", "[!-~]{1,255}", prop::option::of(any::<u128>()));
    (0..samples.len(), any::<u64>(), any::<u32>(), texts).prop_map(
        move |(kind, epoch, number, (text, key, id))| match samples[kind].clone() {
            Record::Opened { .. } => Record::Opened { epoch, software: text.into() },
            Record::Sealed => Record::Sealed,
            Record::Payment(mut payment) => {
                payment.version = number;
                payment.actor = text.into();
                payment.payment = PaymentId::new(Uuid::from_u128(id.unwrap_or(0)));
                payment.request = id.map(|id| Request {
                    key: Key::new(&key).unwrap(),
                    fingerprint: Fingerprint::of("POST", "/", &id.to_le_bytes()),
                    operation: Operation::Refund,
                });
                Record::Payment(payment)
            }
            Record::Webhook(mut webhook) => {
                webhook.actor = text.into();
                Record::Webhook(webhook)
            }
            Record::Access(mut access) => {
                access.actor = text.into();
                Record::Access(access)
            }
            Record::Stray(mut stray) => {
                stray.what = text.into();
                Record::Stray(stray)
            }
        },
    )
}

/// A frame around any payload, sealed as the writer would.
fn sealed(payload: &[u8], count: u32, first: Sequence) -> (Vec<u8>, frame::Place) {
    let place = frame::Place { store: STORE, segment: 1, offset: 4096 };
    let header = frame::Header {
        count,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        epoch: 1,
        first,
        at: at(0),
        previous: Hash::default(),
    };
    let mut bytes = vec![0; frame::HEADER_BYTES];
    bytes.extend(payload);
    frame::seal(&mut bytes, &header, &place);
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    (bytes, place)
}

proptest! {
    #[test]
    fn every_record_is_decoded_as_it_was_encoded(record in any_record()) {
        let bytes = encoded(&record);
        prop_assert_eq!(entry::encoded_bytes(&record).unwrap(), bytes.len());
        prop_assert_eq!(entry::decode(&bytes).unwrap(), (record, &[][..]));
    }

    #[test]
    fn no_bytes_break_a_decoder(bytes: Vec<u8>, count: u32, first: u64) {
        drop(entry::decode(&bytes));
        let mut record = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
        record.extend([1, 0]);
        record.extend(&bytes);
        for payload in [&bytes, &record] {
            let (frame, place) = sealed(payload, count, first);
            drop(frame::open(&frame, &place));
            prop_assert!(frame::open(payload, &place).is_err());
        }
        prop_assert!(segment::Header::decode(&bytes).is_err());
        prop_assert_eq!(Watermark::decode(&bytes), None);
    }

    #[test]
    fn a_changed_encoding_is_another_record_or_none(
        record in any_record(),
        place: prop::sample::Index,
        flip in 1u8..,
        cut: prop::sample::Index,
    ) {
        let mut bytes = encoded(&record);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok((other, _)) = entry::decode(&bytes) {
            prop_assert_ne!(other, record.clone());
        }
        bytes[place] ^= flip;
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(entry::decode(&bytes).is_err());
    }
}

#[test]
fn a_frame_whose_count_does_not_match_its_entries_is_wrong() {
    let bytes = encoded(&Record::Sealed);
    for count in [0, 2, u32::MAX] {
        let (frame, place) = sealed(&bytes, count, 1);
        match frame::open(&frame, &place) {
            Ok(frame) => assert!(count > 0 && frame.batch().is_err()),
            Err(flaw) => assert!(count == 0 && matches!(flaw, frame::Flaw::Wrong(_))),
        }
    }
    let (frame, place) = sealed(&bytes, 1, 1);
    assert_eq!(frame::open(&frame, &place).ok().unwrap().batch().unwrap().entries.len(), 1);
}

#[test]
fn the_largest_record_that_can_be_written_can_be_read() {
    let encoded_bytes = |record: &Record| entry::encoded_bytes(record).ok();
    let beside = encoded_bytes(&samples::large(900_000)).unwrap() - 900_000;
    // A record is bounded without the length and the version before it.
    let largest = entry::RECORD_BYTES_MAX - (beside - 6);
    assert_eq!(encoded_bytes(&samples::large(largest)), Some(largest + beside));
    assert_eq!(encoded_bytes(&samples::large(largest + 1)), None);
    let long = samples::large(largest);
    let mut many = samples::webhooks();
    let changes = many.iter_mut().find_map(|record| match record {
        Record::Webhook(WebhookRecord { event: WebhookEvent::Progressed(changes), .. }) => {
            Some(changes)
        }
        _ => None,
    });
    // A number that takes a byte on disk takes eight in memory.
    changes.unwrap()[0].closed = vec![1; entry::RECORD_BYTES_MAX - 1000];
    for record in many.into_iter().chain([long]) {
        assert!(entry::decode(&encoded(&record)).unwrap().0 == record);
    }
}

#[test]
fn bytes_that_are_no_entry_are_refused_in_words() {
    let entry = |length: u32, version: u16, record: &[u8]| {
        [&length.to_le_bytes()[..], &version.to_le_bytes(), record].concat()
    };
    assert_eq!(entry::decode(&entry(1, 1, &[1])), Ok((Record::Sealed, &[][..])));
    // A number that takes more bytes than it needs is the number that it is.
    assert_eq!(entry::decode(&entry(3, 1, &[251, 1, 0])), Ok((Record::Sealed, &[][..])));
    for (bytes, words) in [
        (vec![1, 0, 0], "length is cut off"),
        (vec![1, 0, 0, 0, 1], "version is cut off"),
        (entry(2, 1, &[1]), "longer than its batch"),
        (entry(2, 1, &[1, 0]), "1 bytes too long"),
        (entry(0, 1, &[]), "cannot be decoded"),
        (entry(1, 1, &[99]), "cannot be decoded"),
        (entry(9, 1, &[0, 253, 0, 0, 0, 0, 0, 0, 0]), "cannot be decoded"),
        (entry(1, 2, &[1]), "has version 2"),
        (entry(1, 0, &[1]), "has version 0"),
    ] {
        let refused = entry::decode(&bytes).unwrap_err();
        assert!(refused.contains(words), "{bytes:?}: {refused}");
    }
}
