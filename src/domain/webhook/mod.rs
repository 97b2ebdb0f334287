//! Webhooks: how a message is signed, so that whoever gets it knows that it is ours.

mod signature;

pub use signature::{Secret, Signed, TOLERANCE_S, Unverified};
