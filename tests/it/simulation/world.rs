//! The world that the actors run in: it decides, by the run's dice, which task runs next, and moves the time.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use strongroom::{
    clock::Clock,
    domain::time::Timestamp,
    tasks::simulated::{self, Task},
};
use tokio::time::Instant;

/// Milliseconds that have passed, and what the machine's clock says. Shared by all lives of a run.
#[derive(Debug, Default)]
pub struct Time {
    steady: AtomicU64,
    wall: AtomicU64,
    /// The most that the machine's clock has been ahead of what has passed.
    ahead_max: AtomicU64,
}

impl Time {
    pub fn new(wall: u64) -> Arc<Self> {
        Arc::new(Self {
            steady: AtomicU64::new(1),
            wall: AtomicU64::new(wall),
            ahead_max: AtomicU64::new(wall - 1),
        })
    }

    pub fn steady(&self) -> u64 {
        self.steady.load(SeqCst)
    }

    pub fn pass(&self, millis: u64) {
        self.steady.fetch_add(millis, SeqCst);
        self.wall.fetch_add(millis, SeqCst);
    }

    /// Sets the machine's clock forwards, or back.
    pub fn set_wall(&self, by: i64) {
        let wall = self.wall.load(SeqCst);
        let wall = wall.saturating_add_signed(by);
        self.wall.store(wall, SeqCst);
        self.ahead_max.fetch_max(wall.saturating_sub(self.steady()), SeqCst);
    }

    /// By the machine's clock nothing that happened is younger than it is.
    pub fn set_right(&self) {
        self.wall.fetch_max(self.ahead_max.load(SeqCst) + self.steady(), SeqCst);
    }
}

/// The clock of one life of the server.
#[derive(Debug)]
pub struct LifeClock {
    time: Arc<Time>,
    began: u64,
    last: AtomicU64,
}

impl LifeClock {
    pub fn new(time: Arc<Time>) -> Self {
        let began = time.steady();
        Self { time, began, last: AtomicU64::new(0) }
    }
}

impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        let wall = self.time.wall.load(SeqCst);
        Timestamp::from_millis(self.last.fetch_max(wall, SeqCst).max(wall))
    }

    fn not_before(&self, time: Timestamp) {
        self.last.fetch_max(time.millis(), SeqCst);
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.time.steady() - self.began)
    }

    fn stands_still(&self) -> bool {
        self.last.load(SeqCst) > self.time.wall.load(SeqCst) + 1000
    }
}

type Ready = Arc<Mutex<Vec<usize>>>;

struct TaskWaker {
    number: usize,
    is_queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, SeqCst) {
            self.ready.lock().unwrap().push(self.number);
        }
    }
}

/// By when they go off, in steady milliseconds, and a number.
type Timers = Rc<RefCell<BTreeMap<(u64, u64), Waker>>>;

type Running = Option<(Task, Arc<TaskWaker>)>;

/// See the module.
pub struct World {
    base: Instant,
    pub time: Arc<Time>,
    tasks: RefCell<Vec<Running>>,
    ready: Ready,
    timers: Timers,
    timer: Cell<u64>,
    dice: RefCell<SmallRng>,
}

impl World {
    pub fn new(time: Arc<Time>, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            base: Instant::now(),
            time,
            tasks: RefCell::default(),
            ready: Ready::default(),
            timers: Timers::default(),
            timer: Cell::new(0),
            dice: RefCell::new(SmallRng::seed_from_u64(seed)),
        })
    }

    /// Runs one of the tasks that can go on; `false` if none can.
    pub fn turn(&self) -> bool {
        let number = {
            let mut ready = self.ready.lock().unwrap();
            if ready.is_empty() {
                return false;
            }
            let place = self.dice.borrow_mut().random_range(0..ready.len());
            ready.swap_remove(place)
        };
        let running = self.tasks.borrow_mut().get_mut(number).and_then(Option::take);
        if let Some((mut task, waker)) = running {
            waker.is_queued.store(false, SeqCst);
            let handle = Waker::from(waker.clone());
            match task.as_mut().poll(&mut Context::from_waker(&handle)) {
                Poll::Ready(()) => drop(task),
                Poll::Pending => self.tasks.borrow_mut()[number] = Some((task, waker)),
            }
        }
        true
    }

    /// Runs everything until nothing can go on before time passes.
    pub fn settle(&self) {
        let turns = (0..100_000).take_while(|_| self.turn()).count();
        assert!(turns < 100_000, "tasks keep each other busy");
    }

    /// When the next timer goes off, in steady milliseconds.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.borrow().keys().next().map(|(at, _)| *at)
    }

    /// Wakes whoever waited for the time that it is now.
    pub fn ring(&self) {
        let later = self.timers.borrow_mut().split_off(&(self.time.steady() + 1, 0));
        let due = self.timers.replace(later);
        due.into_values().for_each(Waker::wake);
    }

    /// Ends every task where it stands, as the end of a process does.
    pub fn end(&self) {
        // What falls may wake others, or spawn.
        loop {
            let tasks = self.tasks.take();
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        self.ready.lock().unwrap().clear();
        self.timers.take();
    }
}

impl simulated::World for World {
    fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.time.steady())
    }

    fn spawn(&self, task: Task) {
        let mut tasks = self.tasks.borrow_mut();
        let number = tasks.len();
        let ready = self.ready.clone();
        let waker = Arc::new(TaskWaker { number, is_queued: AtomicBool::new(true), ready });
        tasks.push(Some((task, waker)));
        self.ready.lock().unwrap().push(number);
    }

    fn sleep_until(&self, time: Instant) -> Task {
        let after = time.saturating_duration_since(self.base).as_millis();
        let number = self.timer.get();
        self.timer.set(number + 1);
        let key = (u64::try_from(after).unwrap(), number);
        Box::pin(Sleep { key, time: self.time.clone(), timers: self.timers.clone() })
    }
}

/// Ends at a time.
struct Sleep {
    key: (u64, u64),
    time: Arc<Time>,
    timers: Timers,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.time.steady() >= self.key.0 {
            return Poll::Ready(());
        }
        self.timers.borrow_mut().insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.timers.borrow_mut().remove(&self.key);
        drop(waker);
    }
}
