//! `strongroom serve --read-only`: the books over HTTP as they stand or stood, without the right to change them.
//!
//! The journal is read once, as of now or the moment that is asked for, and the folder let go of: a server may start on
//! it, run on it, or go on running.

use super::{
    offline::{Moment, Offline},
    serve::{listen, shutdown_signal, url},
    systemd, verdict,
};
use crate::{
    app::{self, Stopped},
    clock::{Clock, SystemClock},
    config::Config,
    domain::books::{Books, Position},
    http::Certificate,
};
use std::{
    io::{self, Write},
    net::TcpListener,
    path::Path,
    time::Instant,
};

/// Shows the books until it is told to stop.
///
/// # Errors
/// The journal is damaged before the moment that is asked for, or cannot be read; or there is nowhere to listen.
pub(super) fn run(
    config: &Config,
    inherited: Option<TcpListener>,
    certificate: Option<Certificate>,
    at: Option<Moment>,
) -> anyhow::Result<()> {
    let (listener, address) = listen(config.http.listen, inherited)?;
    let url = url(&config.http, address);
    let began = Instant::now();
    let journal = Offline::open(config.data_dir.clone())?;
    let (books, bytes) = verdict::books_at(&journal, at)?;
    drop(journal);
    let now = SystemClock::default().now();
    let now = match at {
        None => now,
        Some(Moment::Time(time)) => time.min(now),
        Some(Moment::Sequence(_)) => books.position().at,
    };
    let took = format!("{bytes} bytes in {} ms", began.elapsed().as_millis());
    let said = announcement(&books, &config.data_dir, &took, at);
    actix_rt::System::new().block_on(async {
        let shutdown = shutdown_signal().map_err(Stopped::Io)?;
        // A terminal that is gone is no reason not to show books.
        let started = || {
            drop(announce(&said, &url));
            systemd::notify(systemd::READY);
        };
        app::show(config, (books, now), (listener, certificate), started, shutdown).await
    })?;
    Ok(())
}

fn announcement(books: &Books, data: &Path, took: &str, at: Option<Moment>) -> String {
    let Position { sequence, at: last_at, head } = books.position();
    let data = data.display();
    let payments = books.payment_count();
    let stood = at.map_or("as they stand".into(), |at| format!("as they stood at {at}"));
    format!(
        "read {payments} payments from {sequence} journal entries of {data}/ ({took})\n\
         read-only: the books {stood}, through entry {sequence}, {last_at}; writes are refused, and what comes later is \
         not shown\n\
         chain head {head}"
    )
}

fn announce(said: &str, url: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{said}\nlistening on {url}")?;
    out.flush()
}
