//! How things look on the wire: what [`crate::wire`] says, under the name that the handlers use.

pub(super) use crate::wire::{EventBody, PageBody, PaymentBody, Text, Time, Told};
