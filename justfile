# Every recipe is one plain line, so nothing here needs `just`.

# Start the server on config.toml and data/.
serve:
    cargo run --release

# Every test.
test:
    cargo test

# The gate that every change passes.
ci:
    .ci/run

# A workload's ledger, checked by hledger and bean-check.
export-check:
    tests/export_check.sh

# Real webhooks, verified by the official libraries for Python and JavaScript.
webhooks-check:
    tests/webhooks_check.sh

# The Stripe adapter against localstripe, both books compared to the cent.
localstripe-check:
    tests/localstripe_check.sh

# Kill -9 and faults of the provider at random, over as many payments.
chaos payments="5000":
    CHAOS={{payments}} cargo test --test it provider_chaos:: -- --nocapture

# More rounds of kill -9 than the suite runs.
crash rounds="200":
    CRASHES={{rounds}} cargo test --test it crash:: -- --nocapture

# The power fails under load, on a file system that forgets what was not synced (Linux, root).
power-loss cuts="20":
    CRASHES={{cuts}} tests/power_loss_check.sh

# A small tmpfs and a small ext4 fill up under load (Linux, root).
disk-check:
    tests/disk_check.sh

# The machine's clock is set back (Linux).
clock-check:
    tests/clock_check.sh

# What single steps cost: rules, journal, webhooks by time; a charge through everything by instructions.
bench:
    cargo bench --bench rules --bench journal --bench webhooks
    benches/load/instructions.py

# Durable payments over HTTP beside what HTTP alone costs. Once before: cargo install oha --locked
load *options:
    benches/load/run.py {{options}}

# Every fuzz target for so many seconds each: no panic, no case over 2 GB. Needs `cargo install cargo-fuzz`.
fuzz seconds="60":
    fuzz/run.sh {{seconds}}

# Every bit, cut and pair of blocks, in larger folders; half an hour or more.
corruption:
    CORRUPTION=all cargo test --release --test it corruption:: -- --nocapture

# More sequences against the model, and more histories of keys.
model cases="100000":
    PROPTEST_CASES={{cases}} HISTORIES={{cases}} cargo test --release --test it model:: -- --nocapture
