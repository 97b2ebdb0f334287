//! Books that go wrong in memory, for tests of the real program. Only compiled for tests.
//!
//! With the environment variable `STRONGROOM_BOOKS_FAULT` set to `merchant-balance-off-while:PATH`, the running balance
//! of merchant_1 in US dollars is one cent too high while the file `PATH` exists.

use super::BooksReader;
use crate::domain::{ledger::Account, money::Currency};
use std::{env, io, path::PathBuf, sync::PoisonError, thread, time::Duration};

const VARIABLE: &str = "STRONGROOM_BOOKS_FAULT";

/// Seeds the fault that the environment asks for. A value that names no fault is an error.
pub fn faults_from_environment(books: &BooksReader) -> io::Result<()> {
    let value = match env::var(VARIABLE) {
        Err(env::VarError::NotPresent) => return Ok(()),
        value => value.map_err(io::Error::other)?,
    };
    let (Some(("merchant-balance-off-while", path)), Some(currency)) =
        (value.split_once(':'), Currency::for_payment("USD"))
    else {
        return Err(io::Error::other(format!("{VARIABLE}={value} is no fault")));
    };
    let (path, books) = (PathBuf::from(path), books.clone());
    let account = Account::Merchant("merchant_1".into());
    thread::Builder::new().name("fault".into()).spawn(move || {
        for (seeded, by) in [(true, 1), (false, -1)].into_iter().cycle() {
            while path.exists() != seeded {
                thread::sleep(Duration::from_millis(1));
            }
            let mut books = books.0.write().unwrap_or_else(PoisonError::into_inner);
            books.corrupt_balance(&account, currency, by);
        }
    })?;
    Ok(())
}
