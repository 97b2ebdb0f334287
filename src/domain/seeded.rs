//! Bugs on purpose, to see that the tests would notice them. Only compiled for tests.
//!
//! Each stands at the place where the code does the right thing: `grep 'seeded!('` finds them all. In a build without the
//! feature `fault-injection` the macro is the word `false`.

use std::cell::Cell;

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident $text:literal),* $(,)?) => {
        /// What can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];

            /// In words.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

bugs! {
    /// The journal's file is opened for cached writes.
    DataNotSynced "a batch is written and not synced",
    /// A new segment's name is not made durable.
    FolderNotSynced "a new segment's name is not synced",
    /// After a failed write the file is synced again, which succeeds and means nothing.
    SyncTriedAgain "a failed sync is tried again",
    /// A start reads what the operating system shows, not what the device holds.
    CacheTrusted "a start trusts the page cache",
    /// The ledger answers before it writes.
    AnsweredBeforeSync "an answer before the sync",
    /// The ledger books before it writes.
    AppliedBeforeSync "the books are changed before the sync",
    /// A start books the last entry of each batch twice.
    ReplayedTwice "a start replays entries twice",
    /// A snapshot holds no idempotency keys.
    KeyNotInSnapshot "the idempotency key is forgotten in the snapshot",
    /// The writer does not look at a record's version.
    VersionNotChecked "the writer checks no version",
    /// The writer does not look whether the key is used.
    KeyNotChecked "the writer checks no key",
    /// A write that a crash cut short stops the start.
    TornIsDamage "a torn tail is taken for corruption",
    /// What is damaged is cut off.
    DamageIsTorn "corruption is taken for a torn tail",
    /// A start takes over without a new epoch.
    EpochNotRaised "no writer epoch",
    /// One minor unit more than was taken can be given back.
    RefundOffByOne "the refund limit is off by one",
    /// A refund that is out does not count.
    RefundOutForgotten "a refund in doubt does not count against the limit",
    /// The provider is called before the intent is on disk.
    OutcomeBeforeIntent "the provider is called before the intent is durable",
    /// An outcome that nobody knows is booked as a failure.
    UnknownIsFailed "an unknown outcome is taken for a failure",
    /// What is heard after the client was told is not booked.
    LateAnswerDropped "a late answer is dropped",
    /// An attempt is called for again under another key.
    RepeatedUnderNewKey "a call is repeated under a new key",
    /// A delivery is on record before it is made.
    CursorBeforeDelivery "the webhook cursor moves before the delivery",
    /// A later event of a payment is tried before an earlier one is settled.
    OrderNotKept "a payment's webhook events overtake each other",
    /// Another request under a used key is answered with the first one's answer.
    FingerprintNotCompared "the key's fingerprint is not compared",
    /// A replay shows the payment as it stands now.
    AnswerNotAsOfThen "a replay shows the payment as it stands now",
}

thread_local! {
    static SEEDED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Seeds a bug for all that the calling thread does from now on; `None` for none.
pub fn seed(bug: Option<Bug>) {
    SEEDED.set(bug);
}

/// Whether the calling thread has this bug.
#[must_use]
pub fn is(bug: Bug) -> bool {
    SEEDED.get() == Some(bug)
}
