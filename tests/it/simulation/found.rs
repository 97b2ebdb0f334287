//! What the simulation has found, each once more by itself.

use super::{
    clients::Body,
    run::Run,
    server::{Inbox, Server},
};
use strongroom::{
    actors::Unavailable,
    domain::payment::Status,
    journal::disk::simulated::Fault,
    pipeline::{Done, NotDone},
    tasks::simulated::Stay,
};

/// A run whose bank takes 600 ms each way and never fails, and its server.
fn quiet() -> (Run, Server, Stay) {
    let (mut run, stay) = Run::new(1);
    run.bank.lock().mood.calm();
    run.bank.lock().mood.fast = (600, 600);
    let server = run.start_anew();
    (run, server, stay)
}

impl Run {
    fn start_anew(&mut self) -> Server {
        let server = Server::start(&self.disk, self.setup, &self.time, &self.bank).unwrap();
        self.time.settle();
        server
    }

    fn ask_for(&mut self, server: &Server, number: usize, inbox: &Inbox<()>) {
        let task = self.clients.request(number, Body::Same, &mut self.dice);
        server.send((), task, inbox);
        self.time.settle();
    }

    /// The time passes whether the power is on or off.
    fn pass_all(&mut self, millis: u64) {
        let until = self.time.time.steady() + millis;
        loop {
            let is_then = self.hop(until);
            self.time.settle();
            if is_then {
                break;
            }
        }
    }

    /// All that was written got to the disk.
    fn lose_power_late(&mut self, server: Server) -> Server {
        drop(server);
        self.time.end();
        self.disk = self.disk.crash_with(|_| true);
        self.start_anew()
    }
}

fn is_unknown(answer: &Result<Done, NotDone>) -> bool {
    matches!(answer, Err(NotDone::Unavailable(Unavailable::OutcomeUnknown)))
}

/// A process whose write has failed may have booked less than is on disk: whoever asked again under the key was told that
/// the payment was processing, and after the next start that it was completed.
#[test]
fn a_key_is_not_answered_from_the_books_once_a_write_has_failed() {
    let (mut run, server, _stay) = quiet();
    let inbox = Inbox::default();
    let number = run.clients.invent_charge(true);
    run.ask_for(&server, number, &inbox);
    run.ask_for(&server, number, &inbox);
    run.pass_all(1_000);
    // The intent is on disk; the outcome gets there too, and the write says otherwise.
    run.disk.fail_at(1, Fault::PowerFails);
    run.pass_all(1_000);
    let answers: Vec<_> = inbox.take().into_iter().map(|(_, answer)| is_unknown(&answer)).collect();
    assert_eq!(answers, [true, true]);
    let server = run.lose_power_late(server);
    run.ask_for(&server, number, &inbox);
    let answers = inbox.take();
    let [((), Ok(done))] = &answers[..] else { panic!("no answer") };
    assert!(done.replayed && done.payment.status == Status::Completed);
}

/// The first provider had turned a charge away. That it goes to the second one was written, and the write failed: until
/// the process ended, the scheduler asked the first one again, and after the next start the second one was asked too.
#[test]
fn an_attempt_is_not_called_for_again_once_a_write_has_failed() {
    let (mut run, server, _stay) = quiet();
    let inbox = Inbox::default();
    let number = run.clients.invent_charge(true);
    run.bank.lock().mood.refuses = 1000;
    run.ask_for(&server, number, &inbox);
    run.pass_all(1_000);
    run.bank.lock().mood.refuses = 0;
    run.disk.fail_at(1, Fault::PowerFails);
    run.pass_all(20_000);
    assert!(inbox.take().iter().all(|(_, answer)| is_unknown(answer)));
    assert!(run.bank.lock().effects.is_empty(), "it was called for again");
    let server = run.lose_power_late(server);
    run.pass_all(20_000);
    run.ask_for(&server, number, &inbox);
    assert!(matches!(&inbox.take()[..], [((), Ok(_))]));
    assert_eq!(run.bank.lock().effects.len(), 1, "charged once");
}
