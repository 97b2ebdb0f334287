//! One seed, one run: lives of the server with whatever befalls them, and at the end a quiet one in which everything has
//! to come right.

use super::{
    audit,
    bank::{Bank, Mood},
    clients::{Body, Clients},
    harm,
    hooks::{Courier, Endpoint, endpoint_id},
    server::{ANSWER_WITHIN_MS, Inbox, Server, Setup},
    world::{Time, World},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::rc::Rc;
use strongroom::{
    actors::payment::{Perform, Wish},
    clock::Clock,
    journal::{
        ahead::by_hand,
        disk::simulated::{Fullness, SimulatedDisk},
    },
    tasks::{
        self,
        simulated::{self, Stay},
    },
};

/// What happened in runs, for a figure and to see that it does happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub lives: u64,
    pub answers: u64,
    pub replays: u64,
    pub mismatches: u64,
    pub power_failures: u64,
    pub kills: u64,
    pub failed_starts: u64,
    pub snapshots: u64,
    pub flips: u64,
    pub refused_flips: u64,
    pub events: u64,
    pub effects: u64,
    pub torn: u64,
}

impl Tally {
    fn fields(&mut self) -> [&mut u64; 14] {
        [
            &mut self.runs,
            &mut self.lives,
            &mut self.answers,
            &mut self.replays,
            &mut self.mismatches,
            &mut self.power_failures,
            &mut self.kills,
            &mut self.failed_starts,
            &mut self.snapshots,
            &mut self.flips,
            &mut self.refused_flips,
            &mut self.events,
            &mut self.effects,
            &mut self.torn,
        ]
    }

    pub fn add(&mut self, mut other: Self) {
        for (own, other) in self.fields().into_iter().zip(other.fields()) {
            *own += *other;
        }
    }
}

pub struct Run {
    pub dice: SmallRng,
    pub disk: SimulatedDisk,
    pub setup: Setup,
    pub time: Rc<World>,
    pub bank: Bank,
    pub clients: Clients,
    pub endpoint: Endpoint,
    pub tally: Tally,
    inbox: Inbox<(usize, Body)>,
    pub courier: Option<Courier>,
    epoch: u64,
    /// The disk was told to fail, in this life.
    trouble: bool,
    /// How much happens in one step of a life.
    pub chaos: Chaos,
}

#[derive(Clone, Copy)]
pub struct Chaos {
    disk: bool,
    pub clock: bool,
    /// Actors are lost, as bugs would.
    actors: bool,
    /// The idempotency actor among them.
    forgetful: bool,
}

/// What the dice of the seed make of it.
pub fn run(seed: u64) -> Tally {
    let (mut run, stay) = Run::new(seed);
    for _ in 0..run.dice.random_range(1..3) {
        run.live();
    }
    run.come_right();
    drop(stay);
    run.tally
}

impl Run {
    /// A run at its beginning, in a world that the thread has entered.
    pub fn new(seed: u64) -> (Self, Stay) {
        let mut dice = SmallRng::seed_from_u64(seed);
        let clock = Time::new(1_763_823_845_000);
        let world = World::new(clock.clone(), dice.random());
        let stay = simulated::enter(world.clone());
        let (forgets, fast) = (dice.random_bool(0.7), (0, 900));
        let mood = if dice.random_bool(0.3) {
            Mood { slow: 0, fast, lost: 0, declines: 100, refuses: 0, looks_up: true, forgets }
        } else {
            Mood {
                slow: dice.random_range(0..400),
                fast,
                lost: dice.random_range(0..300),
                declines: dice.random_range(0..200),
                refuses: dice.random_range(0..150),
                looks_up: dice.random_bool(0.8),
                forgets,
            }
        };
        let mut run = Run {
            disk: SimulatedDisk::default(),
            setup: Setup {
                segment_bytes: if dice.random_bool(0.8) { 64 * 1024 } else { 128 * 1024 },
                in_flight_max: dice.random_range(2..6),
            },
            bank: Bank::new(clock, mood, dice.random()),
            time: world,
            clients: Clients::default(),
            endpoint: Endpoint::default(),
            tally: Tally { runs: 1, ..Tally::default() },
            inbox: Inbox::default(),
            courier: None,
            epoch: 0,
            trouble: false,
            chaos: Chaos {
                disk: dice.random_bool(0.7),
                clock: dice.random_bool(0.3),
                actors: dice.random_bool(0.2),
                forgetful: false,
            },
            dice,
        };
        if run.chaos.actors && run.dice.random_bool(0.5) {
            (run.chaos.forgetful, run.clients.inside_only) = (true, true);
        }
        (run, stay)
    }

    /// A life from a start to whatever ends it.
    fn live(&mut self) {
        let Some(mut server) = self.start() else { return };
        for _ in 0..self.dice.random_range(5..30) {
            self.step(&mut server);
            if server.has_failed() || self.disk.is_off() {
                break;
            }
        }
        self.end(server);
    }

    /// A start, which may meet faults of its own. What is not damaged has to start sooner or later.
    fn start(&mut self) -> Option<Server> {
        if self.chaos.disk && self.dice.random_bool(0.3) {
            let call = self.dice.random_range(1..8);
            self.disk.fail_at(call, harm::fault(&mut self.dice));
            self.trouble = true;
        }
        match Server::start(&self.disk, self.setup, &self.time, &self.bank) {
            Ok(server) => {
                self.began(&server);
                Some(server)
            }
            Err(error) => {
                self.tally.failed_starts += 1;
                let is_damage = error.to_string().contains("amaged");
                assert!(!is_damage, "nothing is damaged, and the start says: {error}");
                self.crash();
                None
            }
        }
    }

    pub fn began(&mut self, server: &Server) {
        self.tally.lives += 1;
        self.tally.torn += u64::from(server.report.torn.is_some());
        let epoch = server.report.epoch;
        assert!(epoch > self.epoch, "writer {epoch} came after writer {}", self.epoch);
        self.epoch = epoch;
        let books = server.engine.books.read();
        audit::answers_stand(&self.clients, &books, server.clock.now());
        audit::limits_hold(&books);
        audit::told_events_stand(&books, &self.endpoint);
        drop(books);
        self.courier = Courier::start(server);
    }

    /// One thing that happens.
    fn step(&mut self, server: &mut Server) {
        let what = self.dice.random_range(0..100);
        tracing::info!(what, now = self.time.time.steady(), "step");
        match what {
            0..25 => self.ask_something_new(server),
            25..45 => self.ask_again(server),
            45..52 => self.ask_something_else_under_a_used_key(server),
            52..57 => self.hooks(server, false),
            57..62 => self.news(server),
            62..64 => self.tally.snapshots += u64::from(server.snapshot()),
            64..70 if self.chaos.disk => self.harm_the_disk(),
            70..73 if self.chaos.clock => harm::clock(&self.time.time, &mut self.dice),
            73..78 if self.chaos.actors && self.clients.operations.len() < 16 => {
                self.lose_an_actor(server);
            }
            78..82 => by_hand::prepare(),
            82..90 => self.wait(server, 20_000),
            _ => self.wait(server, 1_000),
        }
        self.some_turns(30);
        self.read_answers(false);
        if self.dice.random_bool(0.3) {
            self.time.settle();
            self.late_answers_are_booked(server);
        }
    }

    fn ask_something_new(&mut self, server: &Server) {
        if self.clients.operations.len() < 10 {
            let number = self.clients.invent(&mut self.dice);
            self.ask(server, number, Body::Same);
        }
    }

    fn ask_again(&mut self, server: &Server) {
        if !self.clients.operations.is_empty() {
            let number = self.dice.random_range(0..self.clients.operations.len());
            self.ask(server, number, Body::Same);
        }
    }

    fn ask_something_else_under_a_used_key(&mut self, server: &Server) {
        let is_used = |number: &usize| self.clients.operations[*number].answer.is_some();
        let used: Vec<usize> = (0..self.clients.operations.len()).filter(is_used).collect();
        if !used.is_empty() {
            let number = used[self.dice.random_range(0..used.len())];
            self.ask(server, number, Body::Other);
        }
    }

    pub fn ask(&mut self, server: &Server, number: usize, body: Body) {
        let task = self.clients.request(number, body, &mut self.dice);
        server.send((number, body), task, &self.inbox);
    }

    pub fn read_answers(&mut self, all: bool) {
        for (about, result) in self.inbox.take() {
            // Some are lost on their way.
            if all || self.dice.random_bool(0.9) {
                self.clients.hear(about, result);
            } else {
                self.clients.operations[about.0].lose_answer();
            }
        }
    }

    pub fn hooks(&mut self, server: &Server, good: bool) {
        let Some(courier) = &mut self.courier else {
            let is_there = server.engine.books.read().webhooks().endpoint(endpoint_id()).is_some();
            self.courier = if is_there { Courier::start(server) } else { None };
            return;
        };
        courier.begin(server);
        for _ in 0..self.dice.random_range(1..6) {
            courier.end_one(server, &mut self.endpoint, &mut self.dice, good);
        }
        if good || self.dice.random_bool(0.5) {
            courier.report(server);
        }
    }

    /// The bank tells something by itself, once or twice.
    fn news(&mut self, server: &Server) {
        let Some((provider, news)) = self.bank.tell() else { return };
        let Some(payment) = news.payment else { return };
        let engine = server.engine.clone();
        drop(tasks::spawn(async move {
            let wish = Wish::Heed { provider, news };
            drop(engine.perform(payment, Perform::by_system(wish, "system/news")).await);
        }));
    }

    fn harm_the_disk(&mut self) {
        self.trouble = true;
        match self.dice.random_range(0..10) {
            0 => self.disk.set_full(Fullness::Full),
            1..4 => self.disk.set_full(Fullness::Room),
            _ => self.disk.fail_at(self.dice.random_range(1..12), harm::fault(&mut self.dice)),
        }
    }

    /// An actor is lost while it is at work, and the next one meets what it was at.
    fn lose_an_actor(&mut self, server: &Server) {
        let all = 0..self.clients.operations.len();
        let charges: Vec<_> = all.filter(|it| self.clients.payment_of(*it).is_some()).collect();
        if charges.is_empty() {
            return;
        }
        let charge = charges[self.dice.random_range(0..charges.len())];
        if self.chaos.forgetful && self.dice.random_bool(0.5) {
            let number = self.clients.invent_charge(false);
            self.ask(server, number, Body::Same);
            self.some_turns(8);
            server.engine.idempotency.forget();
            self.ask(server, number, Body::Same);
        } else {
            let number = self.clients.invent_refund(charge);
            self.ask(server, number, Body::Same);
            self.some_turns(8);
            let payment = self.clients.payment_of(charge);
            if let Some(lease) = payment.and_then(|it| server.engine.registry.lease(it, || None)) {
                lease.retire();
            }
            let number = self.clients.invent_refund(charge);
            self.ask(server, number, Body::Same);
        }
    }

    fn some_turns(&mut self, most: usize) {
        for _ in 0..self.dice.random_range(0..most) {
            self.time.turn();
        }
    }

    /// Time passes, from one thing that is due to the next.
    fn wait(&mut self, server: &Server, millis: u64) {
        let until = self.time.time.steady() + self.dice.random_range(1..millis);
        self.pass(server, until);
    }

    pub fn pass(&mut self, server: &Server, until: u64) {
        while !self.hop(until) && !self.disk.is_off() {
            if self.dice.random_bool(0.5) {
                self.time.settle();
                self.late_answers_are_booked(server);
            }
        }
    }

    /// Time passes to the next thing that is due, or to `until`: whether it is then.
    pub fn hop(&mut self, until: u64) -> bool {
        let now = self.time.time.steady();
        let due = [self.time.next_timer(), self.bank.lock().next_due()];
        let next = due.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(until);
        self.time.time.pass(next.min(until).saturating_sub(now));
        self.bank.work();
        self.time.ring();
        self.some_turns(60);
        next >= until
    }

    /// What a provider said for certain is booked, also if nobody waited for it any more: at once, or when those who asked
    /// for something of the payment before it was said have got their answers.
    fn late_answers_are_booked(&self, server: &Server) {
        let mut bank = self.bank.lock();
        if self.chaos.actors || self.trouble {
            bank.told.clear();
        }
        let (books, now) = (server.engine.books.read(), self.time.time.steady());
        bank.told.retain(|told| {
            let Some(history) = books.history(told.payment) else { return false };
            let payment = history.payment();
            let is_out = payment.out().any(|it| it.sequence == told.attempt);
            if !is_out || payment.unsettled_notes().next().is_some() {
                return false;
            }
            let another_is_out = payment.out().any(|it| it.sequence != told.attempt);
            let is_held_up = another_is_out && now - told.at < ANSWER_WITHIN_MS;
            assert!(is_held_up, "an answer was heard and not booked: {payment:?}");
            true
        });
    }

    /// The end of a life: of the process alone, or of the power too.
    fn end(&mut self, mut server: Server) {
        // What other threads do in the moment of a failure.
        self.some_turns(40);
        self.read_answers(false);
        if self.dice.random_bool(0.2) && !self.disk.is_off() && !server.has_failed() {
            let ledger = server.engine.ledger.clone();
            drop(tasks::spawn(async move { ledger.close().await }));
            self.time.settle();
            self.read_answers(false);
        }
        drop(server);
        self.crash();
    }

    fn crash(&mut self) {
        self.time.end();
        self.inbox.take();
        self.clients.lose();
        self.courier = None;
        self.trouble = false;
        self.bank.lock().told.clear();
        let (off, unsynced) = (self.disk.is_off(), self.disk.unsynced());
        tracing::info!(off, unsynced, "the end of a life");
        if self.disk.is_off() || (self.chaos.disk && self.dice.random_bool(0.4)) {
            self.tally.power_failures += 1;
            let dice = &mut self.dice;
            self.disk = self.disk.crash(&mut |options| dice.random_range(0..options));
        } else {
            self.tally.kills += 1;
            self.disk = self.disk.copy();
        }
        self.disk.set_full(Fullness::Room);
        if self.dice.random_bool(0.1) {
            harm::flip_bits(self);
        }
        let down = self.dice.random_range(0..30_000);
        self.time.time.pass(down);
        if self.bank.lock().mood.forgets {
            // How old a call is that an earlier life made, only the machine's clock can say.
            self.time.time.set_right();
        }
        self.bank.work();
    }
}
