//! An entry of a supplier. Invariant: it gives nothing before somebody answers for it: until then it is one that is over.

use landfast_proto::landfast::entry::v1::EntryPolicy;
use landfast_proto::spire::api::server::entry::v1 as api;
use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use landfast_proto::spire::api::types;

use super::policy;
use crate::connect::Channel;
use crate::failure::{Failure, SERVER};
use crate::{connect, wire};

/// What an entry that is to be made waits for.
pub(super) struct ThirdParty {
    sponsor: String,
    contract: String,
    /// Its end.
    expires_at: i64,
}

impl ThirdParty {
    /// Takes the end out of the entry, and puts one there that is past.
    pub(super) fn withhold((sponsor, contract): (String, String), entry: &mut types::Entry) -> Self {
        let expires_at = std::mem::replace(&mut entry.expires_at, PAST);
        Self {
            sponsor,
            contract,
            expires_at,
        }
    }

    /// Names who answers for the entry, and then gives it its end. One that nobody answers for does not stay.
    pub(super) async fn begin(
        self,
        made: &mut types::Entry,
        channel: Channel,
    ) -> Result<EntryPolicy, Failure> {
        let party = (self.sponsor, self.contract);
        let set = policy::make_third_party(channel.clone(), made.id.clone(), party).await;
        let policy = match set {
            Ok(policy) => policy,
            Err(failure) => return Err(taken_back(&made.id, failure, channel).await),
        };
        let request = api::BatchUpdateEntryRequest {
            entries: vec![types::Entry {
                id: made.id.clone(),
                expires_at: self.expires_at,
                ..types::Entry::default()
            }],
            input_mask: Some(types::EntryMask {
                expires_at: true,
                ..types::EntryMask::default()
            }),
            output_mask: None,
        };
        let answer = connect::call(
            SERVER,
            EntryClient::new(channel.clone()).batch_update_entry(request),
        )
        .await;
        let result = answer.map(|answer| answer.results.into_iter().next());
        let begun = result.and_then(|result| {
            wire::outcome(result.as_ref().and_then(|result| result.status.as_ref()))?;
            Ok(result.and_then(|result| result.entry).unwrap_or_default())
        });
        match begun {
            Ok(begun) => *made = begun,
            Err(failure) => return Err(taken_back(&made.id, failure, channel).await),
        }
        Ok(policy)
    }
}

async fn taken_back(id: &str, failure: Failure, channel: Channel) -> Failure {
    let request = api::BatchDeleteEntryRequest {
        ids: vec![id.to_owned()],
    };
    let deleted = connect::call(SERVER, EntryClient::new(channel).batch_delete_entry(request)).await;
    let is_gone = deleted.is_ok_and(|answer| {
        let mut results = answer.results.iter();
        results.all(|one| wire::outcome(one.status.as_ref()).is_ok())
    });
    match is_gone {
        true => Failure::failed(
            failure.message,
            "no entry was left: landfast person list shows who can answer for a third party",
        ),
        false => Failure::failed(
            failure.message,
            format!(
                "the entry may be there: landfast entry show {id} says whether it is over or in force; landfast entry delete {id}"
            ),
        ),
    }
}

/// In 1970: an end of 0 would be none.
const PAST: i64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_until_somebody_answers_for_it() {
        let mut entry = types::Entry {
            expires_at: 4_000_000_000,
            ..types::Entry::default()
        };
        let party = ThirdParty::withhold(("p-x".to_owned(), "C-7".to_owned()), &mut entry);
        assert_eq!((entry.expires_at, party.expires_at), (PAST, 4_000_000_000));
        assert_ne!(PAST, 0, "that would be no end at all");
    }
}
