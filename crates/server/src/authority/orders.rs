//! What operators order of authorities: prepare, activate, taint, revoke.
//!
//! Invariant: an active authority gives way only to a prepared one; only an old one is tainted, and only a tainted one revoked. An order
//! that was answered is durable.

use std::sync::Arc;

use landfast_daemon::TaskHandle;
use landfast_identity::UnixTime;
use tokio::sync::oneshot;

use super::journal::{AuthorityRow, Journal, Kind, OtherChange, Slot};
use super::unheard::Unheard;
use super::{Authorities, AuthorityError, Ordered, plan};
use crate::issuance::Requester;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Make the next authority, in place of one that is prepared already.
    Prepare(Kind),
    /// Sign with this prepared one from now on.
    Activate(Kind, String),
    /// The same, whoever does not know it yet.
    ActivateUnheard(Kind, String),
    /// What this old one signed is to be replaced; it still verifies.
    Taint(Kind, String),
    /// Nothing that this tainted one signed verifies any more.
    Revoke(Kind, String),
}

/// The authorities of a kind, as operators see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) active: Option<AuthorityRow>,
    pub(crate) prepared: Option<AuthorityRow>,
    /// Those that signed before, the latest first.
    pub(crate) old: Vec<AuthorityRow>,
}

impl Authorities {
    /// Carries out an order whatever becomes of who gave it: a caller that goes away half-way would leave it durable and not in force. The
    /// log says who it was.
    ///
    /// # Errors
    /// As [`Self::order`], or the server is stopping.
    pub(crate) async fn order_wholly(
        self: &Arc<Self>,
        tasks: &TaskHandle,
        order: Order,
        by: Requester,
        now: UnixTime,
    ) -> Result<Done, OrderError> {
        let authorities = Arc::clone(self);
        wholly(tasks, async move {
            let done = match authorities.order(&order, now).await {
                // None of those that sign here.
                Err(OrderError::Unknown) => authorities.order_appended(&order, now).await.map(Done::Elsewhere),
                done => done.map(Done::Here),
            };
            match &done {
                Ok(done) => tracing::warn!(?order, authority = done.id(), %by, "an operator's order for the authorities was carried out"),
                Err(error) => {
                    let error = landfast_daemon::error_chain(error);
                    tracing::warn!(?order, error, %by, "an operator's order for the authorities was refused");
                }
            }
            done
        })
        .await
    }

    /// Carries out an order and returns the authority it was about, as it is now (or last was).
    ///
    /// # Errors
    /// When the authority is not in the state that the order needs, or nothing can be stored; then nothing has changed.
    pub(crate) async fn order(&self, order: &Order, now: UnixTime) -> Result<AuthorityRow, OrderError> {
        for _ in 0..MAX_TRIES {
            let journal = self.datastore.journal().await.map_err(AuthorityError::from)?;
            self.spares.give_up_used(&journal);
            if let Some(done) = self.order_other(order, &journal).await? {
                match done {
                    Some(row) => return Ok(row),
                    None => continue,
                }
            }
            let (mut rows, mut above) = (journal.rows.clone(), None);
            let subject = match order {
                Order::Prepare(kind) => {
                    rows.retain(|row| (row.kind, row.slot) != (*kind, Slot::Prepared));
                    let made = self.prepare(*kind, &journal, now).await?;
                    above = made.above;
                    rows.push(made.row);
                    rows.last().cloned()
                }
                Order::Activate(kind, id) | Order::ActivateUnheard(kind, id) => {
                    let row = named(&rows, *kind, id)?;
                    if row.slot != Slot::Prepared {
                        return Err(OrderError::NotPrepared { slot: row.slot });
                    }
                    if let Some(left) = journal.wait_left(*kind, |row| self.ages.of(row, &*self.clock, now)) {
                        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                        return Err(OrderError::TooEarly { seconds });
                    }
                    let unheard = match order {
                        Order::ActivateUnheard(..) => None,
                        _ => self.unheard(*kind, &journal, now).await?,
                    };
                    if let Some(Unheard { nodes, left }) = unheard {
                        let seconds = left.as_secs();
                        return Err(OrderError::Unheard { nodes, seconds });
                    }
                    plan::activate(&mut rows, *kind, now);
                    rows.iter().find(|row| row.id == *id).cloned()
                }
                Order::Taint(kind, id) => {
                    let row = named(&rows, *kind, id)?;
                    own(row, "tainted")?;
                    old(row)?;
                    let row = rows.iter_mut().find(|row| row.id == *id);
                    row.map(|row| {
                        row.tainted = true;
                        row.clone()
                    })
                }
                Order::Revoke(kind, id) => {
                    let row = named(&rows, *kind, id)?.clone();
                    own(&row, "revoked")?;
                    old(&row)?;
                    if !row.tainted {
                        return Err(OrderError::NotTainted);
                    }
                    rows.retain(|other| other.id != *id);
                    if *kind == Kind::Jwt && self.upstream.is_some() {
                        above
                            .get_or_insert_with(|| journal.above.clone())
                            .revoke_jwt(&row);
                    }
                    Some(row)
                }
            };
            let subject = subject.ok_or(OrderError::Unknown)?;
            if self.commit(&journal, rows, above).await?.is_some() {
                return Ok(subject);
            }
            // The server's own rotation was faster: look again.
        }
        Err(OrderError::Busy)
    }

    /// Taints or revokes an authority of another server that shares the database. The outer `None`: it is not about one; the inner: somebody
    /// was faster.
    async fn order_other(
        &self,
        order: &Order,
        journal: &Journal,
    ) -> Result<Option<Option<AuthorityRow>>, OrderError> {
        let (kind, id, change) = match order {
            Order::Taint(kind, id) => (*kind, id, OtherChange::Taint),
            Order::Revoke(kind, id) => (*kind, id, OtherChange::Revoke),
            Order::Prepare(_) | Order::Activate(..) | Order::ActivateUnheard(..) => return Ok(None),
        };
        let mut others = journal.others.iter();
        let Some(row) = others.find(|row| row.kind == kind && row.id == *id) else {
            return Ok(None);
        };
        own(row, "changed")?;
        old(row)?;
        if change == OtherChange::Revoke && !row.tainted {
            return Err(OrderError::NotTainted);
        }
        let changed = self.datastore.change_other(journal.version, id.clone(), change);
        let Some(saved) = changed.await.map_err(AuthorityError::from)? else {
            return Ok(Some(None));
        };
        self.adopt(&saved).await?;
        let now = saved.others.into_iter().find(|row| row.id == *id);
        Ok(Some(Some(now.unwrap_or_else(|| row.clone()))))
    }

    /// Those of a kind.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn standing(&self, kind: Kind) -> Result<Standing, AuthorityError> {
        let mut standing = Standing::default();
        for row in self
            .datastore
            .journal()
            .await?
            .rows
            .into_iter()
            .filter(|row| row.kind == kind)
        {
            match row.slot {
                Slot::Active => standing.active = Some(row),
                Slot::Prepared => standing.prepared = Some(row),
                Slot::Old => standing.old.push(row),
            }
        }
        standing
            .old
            .sort_by_key(|row| std::cmp::Reverse(row.activated_at));
        Ok(standing)
    }
}

/// Carries an order out whatever becomes of who waits for it.
pub(super) async fn wholly<T, E>(
    tasks: &TaskHandle,
    order: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<AuthorityError> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    tasks.spawn_job("order", async move {
        let done = order.await;
        // Who asked may have gone.
        drop(tell.send(done));
    });
    told.await.map_err(|_gone| AuthorityError::Stopped)?
}

fn named<'a>(rows: &'a [AuthorityRow], kind: Kind, id: &str) -> Result<&'a AuthorityRow, OrderError> {
    if id.is_empty() {
        return Err(OrderError::NoId);
    }
    let found = rows.iter().find(|row| row.kind == kind && row.id == id);
    found.ok_or(OrderError::Unknown)
}

/// Of one that another signed, nobody has the certificate in a bundle: its root is what counts.
fn own(row: &AuthorityRow, verb: &'static str) -> Result<(), OrderError> {
    match row.descent {
        None => Ok(()),
        Some(_) => Err(OrderError::Upstream { verb }),
    }
}

fn old(row: &AuthorityRow) -> Result<(), OrderError> {
    match row.slot {
        Slot::Old => Ok(()),
        Slot::Active => Err(OrderError::Active),
        Slot::Prepared => Err(OrderError::NotOld),
    }
}

/// The authority that an order was about, as it is now or last was.
#[derive(Debug)]
pub(crate) enum Done {
    /// One that signs here, or did.
    Here(AuthorityRow),
    /// One that others brought into the bundle.
    Elsewhere(Ordered),
}

impl Done {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Here(row) => &row.id,
            Self::Elsewhere(ordered) => &ordered.id,
        }
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("no authority ID provided")]
    NoId,
    #[error("unexpected authority ID")]
    Unknown,
    #[error("only prepared authorities can be activated, and this one is {}", .slot.as_str())]
    NotPrepared { slot: Slot },
    #[error(
        "other servers sign too, and not every agent that is online knows this authority yet: activate it again in {seconds} s"
    )]
    TooEarly { seconds: u64 },
    #[error(
        "{nodes} nodes have not said that they know this authority: cut off, they would not accept what it signs; activate it again when they have, or in \
         {seconds} s, ban or evict those that do not come back, or activate it with --unheard"
    )]
    Unheard { nodes: usize, seconds: u64 },
    #[error("the authority is active: prepare and activate another first")]
    Active,
    #[error("the authority is prepared: only old ones, which have signed, are tainted and revoked")]
    NotOld,
    #[error(
        "it is not possible to revoke an untainted authority: taint it first, and wait until nothing it signed is in use"
    )]
    NotTainted,
    #[error("local authority can't be {verb} if there is an upstream authority")]
    Upstream { verb: &'static str },
    #[error("the authorities keep changing: try again")]
    Busy,
    #[error("the order cannot be carried out")]
    Failed {
        #[from]
        source: AuthorityError,
    },
}

/// The server's own rotation can be in the way once or twice, not for ever.
const MAX_TRIES: usize = 8;

#[cfg(test)]
mod tests;
