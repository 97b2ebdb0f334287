//! The door for fuzzing the export: the same entries in all four forms.

use super::{Booking, Form, plain_text, tables};
use crate::domain::entry::Entry;
use std::io;

/// What `export` writes of these entries: for hledger, for beancount, as CSV, as JSON lines.
///
/// # Errors
/// None that memory gives.
pub fn written(entries: &[Entry]) -> io::Result<[Vec<u8>; 4]> {
    let mut written = [const { Vec::new() }; 4];
    let forms: [Box<dyn Form>; 4] = [
        Box::new(plain_text::Hledger::default()),
        Box::new(plain_text::Beancount::default()),
        Box::new(tables::Csv),
        Box::new(tables::JsonLines),
    ];
    for (mut form, out) in forms.into_iter().zip(&mut written) {
        form.begin(out)?;
        for booking in entries.iter().filter_map(Booking::of) {
            form.write(out, &booking)?;
        }
        form.end(out)?;
    }
    Ok(written)
}
