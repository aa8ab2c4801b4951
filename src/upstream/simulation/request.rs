//! A request's life, driven as `proxy::origin` drives it: the same calls in the same order, with fates for attempts.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::config::Sticky;
use crate::fields::{Fields, Known};
use crate::upstream::course::{Course, Placed, Unplaced};
use crate::upstream::limits::Leave;
use crate::upstream::queue::Place;
use crate::upstream::side::{Asks, InFlight};
use crate::upstream::simulation::plan::{COOKIE, chance};
use crate::upstream::simulation::truth::Fate;
use crate::upstream::simulation::world::{Checked, Event, World};

/// A request on its way.
pub(super) struct Live<'a> {
    pub wish: Wish,
    pub worker: usize,
    pub began: Duration,
    /// Until its response's head.
    pub course: Option<Course<'a>>,
    /// While it waits.
    pub place: Option<Place>,
    /// Grows with every place in the queue.
    pub ticket: u64,
    /// Since when it waits.
    pub waits_since: Duration,
    /// It was called, and has not looked yet.
    pub is_woken: bool,
    /// Since when there is room for it, while it sleeps.
    pub room_since: Option<Duration>,
    pub attempts: u32,
    /// They failed it.
    pub tried: Vec<usize>,
    /// They are to be tried last.
    pub avoided: Vec<usize>,
    /// One of the retries that the budget counts.
    pub is_retry: bool,
    pub trial: Option<Trial>,
}

/// What a client wants.
pub(super) struct Wish {
    pub client: IpAddr,
    pub path: String,
    pub fields: Fields,
    pub is_idempotent: bool,
    pub can_repeat: bool,
    /// Of those with a session: which one.
    pub visitor: Option<usize>,
    /// Whom its cookie names, where cookies are ours.
    pub home: Option<usize>,
}

/// A client's cookie, and whom it names where it is ours.
#[derive(Clone, Default)]
pub(super) struct Jar {
    pub cookie: Option<String>,
    pub home: Option<usize>,
}

/// An attempt, or the response that goes on after it.
pub(super) struct Trial {
    pub server: usize,
    pub began: Duration,
    pub fate: Fate,
    /// Held as production holds it: until the response is over.
    pub in_flight: InFlight,
    /// The same; the connection closes then.
    pub leave: Option<Leave>,
}

/// Wakes one who waits.
struct Bell {
    number: usize,
    rung: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.lock().unwrap().push(self.number);
    }
}

impl Wish {
    pub(super) fn asks(&self) -> Asks<'_> {
        Asks {
            client: self.client,
            path: &self.path,
            query: "",
            authority: "example.com",
            fields: &self.fields,
        }
    }

    pub(super) fn cookie(&self) -> Option<&str> {
        crate::fields::cookie(&self.fields, COOKIE)
    }
}

impl<'a> World<'a> {
    /// One that is on its way.
    pub(super) fn one(&self, number: usize) -> &Live<'a> {
        self.live[number].as_ref().expect("it is on its way")
    }

    /// The same.
    pub(super) fn one_mut(&mut self, number: usize) -> &mut Live<'a> {
        self.live[number].as_mut().expect("it is on its way")
    }

    /// Its course.
    pub(super) fn course(&self, number: usize) -> &Course<'a> {
        self.one(number).course.as_ref().expect("its response has not begun")
    }

    fn wish(&mut self) -> Wish {
        let plan = &self.stage.plan;
        let visitor = (!self.jars.is_empty() && self.rng.bool()).then(|| self.rng.usize(..self.jars.len()));
        let mut fields = Fields::new();
        let jar = visitor.map(|visitor| self.jars[visitor].clone()).unwrap_or_default();
        // Where sessions are told by a hash, the application's cookie is there from the beginning.
        let is_ours = matches!(self.config.sticky, Some(Sticky::Cookie(_) | Sticky::Learn(_)));
        let own = visitor.filter(|_| !is_ours).map(|visitor| format!("v{visitor}"));
        if let Some(value) = jar.cookie.or(own) {
            fields.append(Known::Cookie, format!("{COOKIE}={value}").as_bytes());
        }
        let host = visitor.map_or_else(|| self.rng.u32(..1 << 24), |visitor| visitor as u32);
        Wish {
            client: Ipv4Addr::from(10 << 24 | host).into(),
            path: format!("/{}", self.rng.u32(..20)),
            fields,
            is_idempotent: !chance(&mut self.rng, plan.not_idempotent),
            can_repeat: chance(&mut self.rng, 95),
            visitor,
            home: jar.home,
        }
    }

    /// A request comes.
    pub(super) fn comes(&mut self) -> Checked {
        let (stage, now) = (self.stage, self.now);
        let wish = self.wish();
        let (number, worker) = (self.live.len(), self.rng.usize(..stage.pools.len()));
        self.note(|| format!("r{number} comes, cookie {:?}, home {:?}", wish.cookie(), wish.home));
        self.spending[worker].request(now);
        let course = Course::begin(&stage.upstream, &stage.pools[worker], &stage.cells, now);
        self.live.push(Some(Live {
            wish,
            worker,
            began: now,
            course: Some(course),
            place: None,
            ticket: 0,
            waits_since: now,
            is_woken: false,
            room_since: None,
            attempts: 0,
            tried: Vec::new(),
            avoided: Vec::new(),
            is_retry: false,
            trial: None,
        }));
        if chance(&mut self.rng, stage.plan.impatient) {
            let patience = Duration::from_millis(self.rng.u64(0..500));
            self.at(now + patience, Event::Leaves(number));
        }
        self.asks_for_a_server(number)
    }

    /// It asks, for the first time or again.
    pub(super) fn asks_for_a_server(&mut self, number: usize) -> Checked {
        let now = self.now;
        let waiting = self.waiting.len();
        let live = self.live[number].as_mut().expect("it is on its way");
        let course = live.course.as_mut().expect("its response has not begun");
        match course.place(&live.wish.asks(), now, &mut self.rngs[live.worker]) {
            Ok(Placed::Picked(picked)) => {
                if waiting > 0 {
                    return Err(format!("r{number} overtakes {waiting} who wait"));
                }
                self.check_pick(number, &picked)?;
                self.tries(number, picked);
                Ok(())
            }
            Ok(Placed::Waits(place)) => {
                if waiting == 0 && self.has_room_for(number) {
                    return Err(format!("r{number} waits though there is room"));
                }
                if waiting >= self.config.queue.size {
                    return Err(format!("r{number} is the {waiting}th to wait"));
                }
                self.waits(number, place);
                Ok(())
            }
            Err(Unplaced::NoServer) => self.has_nobody(number),
            Err(Unplaced::QueueFull) => {
                if waiting < self.config.queue.size || waiting == 0 && self.has_room_for(number) {
                    return Err(format!("r{number} is refused though only {waiting} wait"));
                }
                self.fails(number, "queue full");
                Ok(())
            }
        }
    }

    fn waits(&mut self, number: usize, place: Place) {
        let now = self.now;
        let left = self.time_left(number).unwrap_or(Duration::MAX);
        let live = self.one_mut(number);
        live.ticket += 1;
        (live.place, live.waits_since, live.room_since, live.is_woken) = (Some(place), now, None, false);
        let ticket = live.ticket;
        // A time-out fires up to a tick late.
        let late = Duration::from_millis(self.rng.u64(0..50));
        self.at(now + self.config.queue.timeout.min(left) + late, Event::GivesUp(number, ticket));
        self.waiting.push(number);
        self.tally.note("queued");
        self.note(|| format!("r{number} waits"));
        self.listens(number);
    }

    /// Waits to be called, as a task does.
    fn listens(&mut self, number: usize) {
        let bell = Waker::from(Arc::new(Bell { number, rung: self.rung.clone() }));
        let Some(place) = &self.one(number).place else { return };
        if pin!(place.called()).poll(&mut Context::from_waker(&bell)).is_ready() {
            bell.wake();
        }
    }

    fn stops_waiting(&mut self, number: usize) -> Option<Place> {
        self.waiting.retain(|other| *other != number);
        let live = self.one_mut(number);
        let (place, is_woken) = (live.place.take(), std::mem::take(&mut live.is_woken));
        self.is_offered |= is_woken;
        place
    }

    /// It was called, and looks.
    pub(super) fn wakes(&mut self, number: usize, ticket: u64) -> Checked {
        let now = self.now;
        let Some(live) = self.live[number].as_mut().filter(|live| live.ticket == ticket) else {
            return Ok(());
        };
        let (Some(place), Some(course)) = (&live.place, &mut live.course) else { return Ok(()) };
        live.is_woken = false;
        match course.look(place, &live.wish.asks(), now, &mut self.rngs[live.worker]) {
            None => {
                if self.has_room_for(number) {
                    return Err(format!("r{number} waits on though there is room"));
                }
                self.note(|| format!("r{number} looks in vain"));
                self.listens(number);
                Ok(())
            }
            Some(Ok(picked)) => {
                self.check_turn(number, picked.server)?;
                self.check_pick(number, &picked)?;
                if let Some(place) = self.stops_waiting(number) {
                    place.leave();
                }
                self.tries(number, picked);
                Ok(())
            }
            Some(Err(Unplaced::NoServer)) => {
                self.stops_waiting(number);
                self.has_nobody(number)
            }
            Some(Err(Unplaced::QueueFull)) => Err(format!("r{number} waited already")),
        }
    }

    /// It has waited for long enough.
    pub(super) fn gives_up(&mut self, number: usize, ticket: u64) -> Checked {
        let is_waiting =
            self.live[number].as_ref().is_some_and(|live| live.place.is_some() && live.ticket == ticket);
        if is_waiting {
            self.stops_waiting(number);
            self.fails(number, "queue timed out");
        }
        Ok(())
    }

    fn has_nobody(&mut self, number: usize) -> Checked {
        if self.has_anybody_for(number) {
            return Err(format!("r{number} is told that there is nobody"));
        }
        self.fails(number, "no server");
        Ok(())
    }

    /// Its attempt's connection and its place at the server are free.
    pub(super) fn puts_down(&mut self, number: usize) {
        let live = self.live[number].as_mut().expect("it is on its way");
        if let Some(Trial { server, in_flight, leave, .. }) = live.trial.take() {
            self.at_once.requests[server] -= 1;
            self.at_once.connections[server] -= u32::from(leave.is_some());
            self.is_offered = true;
            // In the order in which production lets go.
            drop(leave);
            drop(in_flight);
        }
    }

    /// There will be no other attempt.
    pub(super) fn forgets_course(&mut self, number: usize) {
        let live = self.live[number].as_mut().expect("it is on its way");
        live.course = None;
        self.at_once.retries -= u32::from(std::mem::take(&mut live.is_retry));
    }

    /// There is no response.
    pub(super) fn fails(&mut self, number: usize, why: &'static str) {
        self.note(|| format!("r{number} ends without a response: {why}"));
        self.tally.note("failed");
        self.tally.note(why);
        self.is_gone(number);
    }

    /// Its response is over.
    pub(super) fn ends(&mut self, number: usize) -> Checked {
        if self.live[number].is_some() {
            self.is_gone(number);
        }
        Ok(())
    }

    /// Its client is gone, whatever it was doing.
    pub(super) fn leaves(&mut self, number: usize) -> Checked {
        if self.live[number].is_some() {
            self.note(|| format!("r{number} leaves"));
            self.tally.note("left");
            self.is_gone(number);
        }
        Ok(())
    }

    fn is_gone(&mut self, number: usize) {
        self.stops_waiting(number);
        self.forgets_course(number);
        self.puts_down(number);
        self.live[number] = None;
    }
}
