//! What the journal costs: an append with its sync by batch size, the codec of one entry, and
//! reading everything back.
//!
//! `cargo bench --bench journal`. The folder lies under `target/`, so it measures the disk that
//! holds the sources.

#![expect(clippy::expect_used, reason = "a bench whose set-up fails has nothing to measure")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, path::Path, sync::Arc};
use strongroom::{
    domain::{
        entry::{PaymentRecord, Record},
        event::{CaptureMode, Details, Event, Outcome},
        id::PaymentId,
        idempotency::{Fingerprint, Key, Operation, Request},
        ledger,
        money::{Amount, Currency},
        payment::Form,
        time::Timestamp,
    },
    journal::{
        DirectIo, Disk, Folders, Options, Reader, RealDisk, Writer, buffer::AlignedBuffer, entry,
        recover,
    },
};
use uuid::Uuid;

/// A charge as a busy merchant makes it.
fn charge() -> Record {
    let payment = PaymentId::new(Uuid::now_v7());
    let details = Arc::new(Details {
        id: payment,
        merchant: "acme".into(),
        amount: Amount::new(4_999).expect("in range"),
        currency: Currency::for_payment("EUR").expect("a currency"),
        capture: CaptureMode::Automatic,
        payment_method: "pm_card_visa".into(),
        customer: Some("customer-1000017".into()),
        description: Some("Order 4711".into()),
        metadata: [("order_id".into(), "4711".into())].into(),
        provider: "sandbox".into(),
        hold_ms: 604_800_000,
    });
    let event = Event::Submitted {
        details: Arc::clone(&details),
        outcome: Some(Outcome::Approved { reference: "sandbox-000000004711".into() }),
    };
    Record::Payment(PaymentRecord {
        payment,
        version: 1,
        actor: "acme/main".into(),
        transaction: ledger::transaction(&details, &event),
        event,
        request: Some(Request {
            key: Key::new("order-4711-attempt-1").expect("a key"),
            fingerprint: Fingerprint::of("POST", "/api/payments", b"{}"),
            operation: Operation::Create,
        }),
        form: Form::default(),
    })
}

fn disk(folder: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(folder, DirectIo::WhereAvailable).expect("a folder"))
}

fn writer(disk: Arc<dyn Disk>) -> Writer {
    let options = Options {
        segment_bytes: 64 * 1024 * 1024,
        batch_bytes_max: 8 * 1024 * 1024,
        software: "bench".into(),
    };
    recover(&Folders::all_in(disk), options, Timestamp::default(), Default::default(), &mut |_| {
        Ok(())
    })
    .expect("a new journal")
    .writer
}

fn folder() -> tempfile::TempDir {
    std::fs::create_dir_all("target").expect("a folder");
    tempfile::tempdir_in("target").expect("a folder")
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append and sync, entries a batch");
    for count in [1, 10, 100, 1000] {
        let folder = folder();
        let mut writer = writer(disk(folder.path()));
        let records: Vec<_> = (0..count).map(|_| charge()).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter_batched(
                || records.clone(),
                |records| writer.append(records, Timestamp::default()).expect("room"),
                BatchSize::SmallInput,
            );
        });
    }
}

fn codec(criterion: &mut Criterion) {
    let record = charge();
    let mut buffer = AlignedBuffer::with_capacity(4096);
    let mut group = criterion.benchmark_group("codec, one entry");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            buffer.truncate(0);
            entry::encode(black_box(&record), &mut buffer).expect("room")
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| entry::decode(black_box(&buffer)).expect("an entry"));
    });
}

fn recovery(criterion: &mut Criterion) {
    let folder = folder();
    let disk = disk(folder.path());
    let mut writer = writer(Arc::clone(&disk));
    let records: Vec<_> = (0..1000).map(|_| charge()).collect();
    for _ in 0..60 {
        writer.append(records.clone(), Timestamp::default()).expect("room");
    }
    let read = || {
        let reader = Reader::open(&Folders::all_in(Arc::clone(&disk))).expect("readable");
        let batches = reader.expect("founded").map(|batch| batch.expect("whole"));
        batches.map(|located| located.bytes).sum::<u64>()
    };
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(read()));
    group.bench_function("read, check and decode", |bencher| bencher.iter(read));
}

criterion_group!(benches, append, codec, recovery);
criterion_main!(benches);
