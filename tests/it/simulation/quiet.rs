//! The last life of a run: nothing goes wrong any more, every client asks until it is told, the bank answers, and all
//! records have to agree.

use super::{
    audit,
    bank::KEY_WINDOW,
    clients::{Body, Operation},
    hooks::{Courier, endpoint_id},
    run::Run,
    server::Server,
};
use rand::RngExt;
use strongroom::journal::{ahead::by_hand, disk::simulated::Fullness};

impl Run {
    /// See the module.
    pub fn come_right(&mut self) {
        self.disk = self.disk.copy();
        self.disk.set_full(Fullness::Room);
        if self.chaos.clock {
            // The machine's clock is right again, and later than ever before.
            self.time.time.set_wall(1_000_000_000);
        }
        self.bank.lock().mood.calm();
        let started = Server::start(&self.disk, self.setup, &self.time, &self.bank);
        let mut server = started.unwrap_or_else(|error| panic!("no start: {error}"));
        self.began(&server);
        // Twice as long as the bank knows keys.
        let steps = 2 * KEY_WINDOW.as_secs() / 30;
        let mut quiet = 0;
        for step in 0.. {
            assert!(step < steps + 200, "{}", self.unsettled(&server));
            for number in 0..self.clients.operations.len() {
                let operation = &self.clients.operations[number];
                if !operation.is_known() && operation.in_flight == 0 {
                    self.ask(&server, number, Body::Same);
                }
            }
            self.time.settle();
            by_hand::prepare();
            let until = self.time.time.steady() + if step < 20 { 3_000 } else { 30_000 };
            self.pass(&server, until);
            self.time.settle();
            self.read_answers(true);
            self.hooks(&server, true);
            self.time.settle();
            assert!(!server.has_failed(), "a quiet life failed");
            let is_done = self.is_settled(&server);
            quiet = if is_done { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
        }
        self.everything_agrees(server);
    }

    fn everything_agrees(&mut self, server: Server) {
        {
            let books = server.engine.books.read();
            audit::answers_stand(&self.clients, &books, server.engine.clock.now());
            let bank = self.bank.lock();
            audit::all_agree(&self.clients, &books, &bank.effects);
            let since = audit::journal_agrees(&server.folders, &books);
            audit::snapshots_agree(&server.folders, &books);
            if self.tally.snapshots > 0 || self.dice.random_bool(0.2) {
                audit::the_same_books(&server.folders, &books);
            }
            audit::events_were_told(&books, &self.endpoint, since);
            self.tally.effects = u64::try_from(bank.effects.len()).unwrap();
        }
        self.tally.answers = self.clients.answers;
        self.tally.replays = self.clients.replays;
        self.tally.mismatches = self.clients.mismatches;
        self.tally.events = self.endpoint.taken;
        self.time.end();
    }

    fn is_settled(&self, server: &Server) -> bool {
        let books = server.engine.books.read();
        let events = books.webhooks().endpoint(endpoint_id()).map_or(1, |it| it.waiting());
        self.clients.operations.iter().all(Operation::is_known)
            && books.in_doubt_count() == 0
            && events == 0
            && self.courier.as_ref().is_some_and(Courier::is_idle)
    }

    fn unsettled(&self, server: &Server) -> String {
        let books = server.engine.books.read();
        let out: Vec<_> = books.in_doubt().map(|history| history.payment()).collect();
        let unknown = |it: &&Operation| !it.is_known();
        let untold: Vec<_> = self.clients.operations.iter().filter(unknown).collect();
        let waiting = books.webhooks().endpoint(endpoint_id()).map(|it| it.waiting());
        format!("it does not settle: {untold:?} {out:?} {waiting:?}")
    }
}
