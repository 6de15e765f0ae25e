//! What a node may give, and what it must give, by what it was told and by what its disk had time to keep.
//!
//! Invariant: it knows less than the agent: where it is not sure, it asks for nothing and allows more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfast_identity::{BundleSet, UnixTime};
use landfast_lifecycle::Clock as _;
use landfast_proto::landfast::agent::v1::GetStatusResponse;
use landfast_workload_api::client::{ClientError, X509Context};
use tonic::Code;

use crate::world::{HOUR, Node, World, accepts};

/// What one agent has, as far as that can be said for sure.
#[derive(Clone, Debug)]
struct Has {
    /// It may give these.
    may: BTreeSet<String>,
    /// It must give these, until then and without its server.
    must: BTreeMap<String, UnixTime>,
    /// It cannot be earlier, as it knows.
    floor: i64,
    /// About what time it is at least, as it knows.
    least: UnixTime,
    banned: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    memory: Has,
    /// As it is read by the next start.
    disk: Has,
    /// When memory was looked at last, and whether the disk has been well ever since.
    looked: UnixTime,
    well: bool,
    /// The server has something to say that the node may not have heard.
    unheard: bool,
    /// The clock is right since then.
    right_since: Option<UnixTime>,
    booted: UnixTime,
    /// It has been in step with its server, its clock being right, since then.
    sure_since: Option<UnixTime>,
    /// `least` as it was read then.
    began: UnixTime,
}

impl Oracle {
    pub(crate) fn new(now: UnixTime) -> Self {
        let has = Has {
            least: now.saturating_sub(HOUR),
            may: BTreeSet::new(),
            must: BTreeMap::new(),
            floor: 0,
            banned: false,
        };
        Self {
            memory: has.clone(),
            disk: has,
            looked: now,
            well: true,
            unheard: true,
            right_since: Some(now),
            booted: now,
            sure_since: None,
            began: now.saturating_sub(HOUR),
        }
    }

    /// An identity that the node may hear of from now on.
    pub(crate) fn created(&mut self, path: &str) {
        self.memory.may.insert(path.to_owned());
        self.disk.may.insert(path.to_owned());
        self.unheard = true;
    }

    /// Something that it had is not to be used any more, once it hears of it.
    pub(crate) fn changed(&mut self) {
        self.unheard = true;
    }

    pub(crate) fn disk_fails(&mut self) {
        self.well = false;
    }

    pub(crate) fn clock_set(&mut self, now: UnixTime, wrong_by: i64) {
        self.right_since = (wrong_by.abs() <= SMALL).then_some(self.right_since.unwrap_or(now));
    }

    /// The agent starts anew, from its disk.
    pub(crate) fn rebooted(&mut self, now: UnixTime) {
        self.memory = self.disk.clone();
        self.began = self.disk.least;
        self.booted = now;
        self.sure_since = None;
        self.looked = now;
    }

    pub(crate) fn is_banned(&self) -> bool {
        self.memory.banned
    }

    /// Looks at the node, and judges it.
    pub(crate) async fn look(&mut self, world: &World, node: &mut Node, entries: &BTreeSet<String>) {
        let status = node.status().await;
        let now = world.now();
        let time = status.time.clone().unwrap_or_default();
        assert!(
            time.floor >= self.memory.floor,
            "the floor went back: {time:?}, {:?}",
            self.memory
        );
        let connected = status.standing == "connected" && node.link.is_up() && status.last_error.is_empty();
        let heard = connected && now.since(self.looked.max(self.booted)) >= Duration::from_secs(20);
        self.keep(now, node);
        self.looked = now;
        self.memory.floor = time.floor;
        let wall = node.wall.now().unwrap();
        // It counts on, whatever its clock shows; what it counts from was written ten minutes ago at most, and is as old as a leap.
        let since = now.since(self.booted).saturating_sub(Duration::from_secs(60));
        let counted = self.began.saturating_add(since);
        self.memory.least = self.memory.least.max(counted);
        self.sure_since = match (connected, self.right_since) {
            (true, Some(right)) => Some(self.sure_since.unwrap_or(now).max(right)),
            _ => None,
        };
        // What a server says counts for good after an hour.
        if self
            .sure_since
            .is_some_and(|since| now.since(since) > Duration::from_secs(70 * 60))
        {
            self.memory.least = self.memory.least.max(now.saturating_sub(Duration::from_secs(60)));
        }
        if status.state == "banned" {
            self.memory.banned = true;
            self.disk.must.clear();
        }
        if self.unheard && node.link.is_up() && !heard {
            // It may have heard a part of it.
            self.memory.must.clear();
            self.disk.must.clear();
        }
        if heard {
            self.hear(&status, entries, now);
        }
        let fetched = node.fetch().await;
        self.judge(world, node, &fetched, (now, wall), &status, heard);
    }

    /// What memory had at the last look is on disk, if that has been well for long enough.
    fn keep(&mut self, now: UnixTime, node: &Node) {
        let long = now.since(self.looked) >= Duration::from_secs(15 * 60);
        if self.well && node.disk.is_healthy() && long {
            self.disk = self.memory.clone();
        } else {
            self.disk.may.extend(self.memory.may.iter().cloned());
            self.disk.banned &= self.memory.banned;
            // It may have written less, and must not have more.
            let memory = &self.memory.must;
            self.disk
                .must
                .retain(|path, end| memory.get(path).is_some_and(|other| other >= end));
        }
        self.well = node.disk.is_healthy();
    }

    fn hear(&mut self, status: &GetStatusResponse, entries: &BTreeSet<String>, now: UnixTime) {
        self.unheard = false;
        self.memory.may.clone_from(entries);
        self.memory.must.clear();
        for identity in &status.identities {
            let path = identity
                .spiffe_id
                .rsplit_once("test")
                .map_or("", |(_, path)| path);
            let until = UnixTime::from_secs(identity.lasts_until);
            if entries.contains(path) && until > now {
                self.memory.must.insert(path.to_owned(), until);
            }
        }
    }

    fn judge(
        &self,
        world: &World,
        node: &Node,
        fetched: &Result<X509Context, ClientError>,
        (now, wall): (UnixTime, UnixTime),
        status: &GetStatusResponse,
        heard: bool,
    ) {
        let told = || format!("at {now}, its clock {wall}, {self:?}, {status:?}");
        let paths: Vec<_> = match fetched {
            Ok(context) => context
                .svids
                .iter()
                .map(|svid| svid.id().path().to_owned())
                .collect(),
            Err(error) => {
                let denied = self.memory.banned || self.memory.may.is_empty() || self.unheard;
                let fits = match error.code() {
                    Some(Code::Unavailable) => true,
                    Some(Code::PermissionDenied) => denied,
                    _ => false,
                };
                assert!(fits, "{error:?} {}", told());
                Vec::new()
            }
        };
        assert!(
            !self.memory.banned || paths.is_empty(),
            "banned, and serves: {}",
            told()
        );
        if let Ok(context) = fetched {
            for svid in &context.svids {
                let path = svid.id().path();
                assert!(
                    self.memory.may.contains(path),
                    "{path} was taken away: {}",
                    told()
                );
                // By a clock that is right or ahead, or by what it knows itself.
                let least = match wall.saturating_add(SKEW) >= now {
                    true => wall.min(now),
                    false => self.memory.least.max(wall),
                };
                assert!(
                    svid.not_after() > least.saturating_sub(Duration::from_secs(2)),
                    "{path} is over since {}: {}",
                    svid.not_after(),
                    told()
                );
                let most = now.max(wall).max(UnixTime::from_secs(
                    status.time.clone().unwrap_or_default().estimate,
                ));
                assert!(
                    svid.not_before() <= most.saturating_add(SKEW),
                    "{path} begins {}: {}",
                    svid.not_before(),
                    told()
                );
                let good = svid
                    .not_after()
                    .saturating_sub(Duration::from_secs(1))
                    .min(now.max(svid.not_before()));
                assert_eq!(accepts(&context.bundles, svid, good), Ok(()), "{}", told());
                if heard {
                    let present = BundleSet::from_iter([(*world.plant.handle().bundle()).clone()]);
                    assert_eq!(
                        accepts(&present, svid, good),
                        Ok(()),
                        "by the server's bundle: {}",
                        told()
                    );
                }
            }
        }
        let settled = self
            .right_since
            .is_some_and(|since| now.since(since) >= Duration::from_secs(120));
        let hears_something = self.unheard && node.link.is_up();
        if settled && !hears_something && !self.memory.banned {
            for (path, until) in &self.memory.must {
                let due = now.saturating_add(Duration::from_secs(900)) < *until;
                assert!(
                    !due || paths.contains(path),
                    "{path} has to last until {until}: {fetched:?} {}",
                    told()
                );
            }
        }
    }
}

/// A clock is right with less, in seconds.
const SMALL: i64 = 100;
/// As configured by default.
const SKEW: Duration = Duration::from_secs(300);
