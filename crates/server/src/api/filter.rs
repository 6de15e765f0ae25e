//! Filters of the lists. Invariant: what cannot be a filter is refused, never taken for none.

use landfast_identity::{TrustDomain, UnixTime};
use landfast_proto::spire::api::server::{agent::v1 as agent, entry::v1 as entry};
use landfast_proto::spire::api::types;
use tonic::Status;

use super::ids;
use crate::registry::{AgentFilter, EntryFilter, MatchKind};

pub(crate) fn entry_filter(
    filter: Option<entry::list_entries_request::Filter>,
    ours: &TrustDomain,
) -> Result<EntryFilter, Status> {
    let Some(filter) = filter else {
        return Ok(EntryFilter::default());
    };
    let subject = filter
        .by_spiffe_id
        .map(|id| ids::workload(Some(&id), ours))
        .transpose();
    let parent = filter
        .by_parent_id
        .map(|id| ids::member(Some(&id), ours))
        .transpose();
    let selectors = filter.by_selectors.map(selector_match).transpose();
    let domains = filter.by_federates_with.map(domain_match).transpose();
    Ok(EntryFilter {
        spiffe_id: subject.map_err(|why| ids::refused("malformed SPIFFE ID filter", &why))?,
        parent_id: parent.map_err(|why| ids::refused("malformed parent ID filter", &why))?,
        selectors: selectors.map_err(|why| ids::refused("malformed selectors filter", &why))?,
        federates_with: domains.map_err(|why| ids::refused("malformed federates with filter", &why))?,
        // As SPIRE reads it: an empty one is none.
        hint: filter.by_hint.filter(|hint| !hint.is_empty()),
        // The command line of SPIRE always sends it: `false` is no wish for the others, but none at all.
        downstream: filter.by_downstream.filter(|downstream| *downstream),
    })
}

/// The filter of a count is that of a list.
pub(crate) fn of_count(filter: entry::count_entries_request::Filter) -> entry::list_entries_request::Filter {
    entry::list_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
    }
}

pub(crate) fn agent_filter(
    filter: Option<agent::list_agents_request::Filter>,
) -> Result<AgentFilter, Status> {
    let Some(filter) = filter else {
        return Ok(AgentFilter::default());
    };
    let expires_before = match filter.by_expires_before.as_str() {
        "" => None,
        text => Some(time_in(text)?),
    };
    Ok(AgentFilter {
        attestation_type: Some(filter.by_attestation_type).filter(|text| !text.is_empty()),
        banned: filter.by_banned,
        can_reattest: filter.by_can_reattest,
        expires_before,
        selectors: filter
            .by_selector_match
            .map(selector_match)
            .transpose()
            .map_err(|why| ids::refused("failed to parse selectors", &why))?,
    })
}

/// The filter of a count is that of a list.
pub(crate) fn of_agent_count(
    filter: agent::count_agents_request::Filter,
) -> agent::list_agents_request::Filter {
    agent::list_agents_request::Filter {
        by_attestation_type: filter.by_attestation_type,
        by_selector_match: filter.by_selector_match,
        by_banned: filter.by_banned,
        by_can_reattest: filter.by_can_reattest,
        by_expires_before: filter.by_expires_before,
    }
}

/// A count as the wire has it.
pub(crate) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn selector_match(
    given: types::SelectorMatch,
) -> Result<(landfast_identity::SelectorSet, MatchKind), String> {
    let set = ids::selectors(&given.selectors)?;
    if set.is_empty() {
        return Err("empty selector set".to_owned());
    }
    Ok((set, match_kind(given.r#match)?))
}

fn domain_match(given: types::FederatesWithMatch) -> Result<(Vec<TrustDomain>, MatchKind), String> {
    let domains = given.trust_domains.iter().map(|name| ids::trust_domain(name));
    let domains = domains.collect::<Result<Vec<_>, _>>()?;
    if domains.is_empty() {
        return Err("empty trust domain set".to_owned());
    }
    Ok((domains, match_kind(given.r#match)?))
}

/// Selectors and trust domains are matched by the same four numbers.
fn match_kind(number: i32) -> Result<MatchKind, String> {
    match number {
        0 => Ok(MatchKind::Exact),
        1 => Ok(MatchKind::Subset),
        2 => Ok(MatchKind::Superset),
        3 => Ok(MatchKind::Any),
        other => Err(format!("match behavior {other} not supported")),
    }
}

/// `2006-01-02 15:04:05 -0700 -07`, as the published API has it; the last part repeats the zone and is not read.
fn time_in(text: &str) -> Result<UnixTime, Status> {
    let bad = || {
        Status::invalid_argument(
            "invalid by_expires_before: expected a time such as 2026-11-23 15:04:05 +0100 +01",
        )
    };
    let mut parts = text.split(' ');
    let (Some(date), Some(clock), Some(zone)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<i64>().ok(),
        false => None,
    };
    let three = |text: &str, by: char| -> Option<[i64; 3]> {
        let mut fields = text.split(by).map(number);
        let found = [fields.next()??, fields.next()??, fields.next()??];
        fields.next().is_none().then_some(found)
    };
    let ([year, month, day], [hour, minute, second]) =
        three(date, '-').zip(three(clock, ':')).ok_or_else(bad)?;
    let (sign, offset) = match zone.split_at_checked(1) {
        Some(("+", offset)) => (1, offset),
        Some(("-", offset)) => (-1, offset),
        _ => return Err(bad()),
    };
    let offset = number(offset).filter(|_| offset.len() == 4).ok_or_else(bad)?;
    let ranges = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !ranges {
        return Err(bad());
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok(UnixTime::from_secs(
        seconds - sign * (offset / 100 * 3600 + offset % 100 * 60),
    ))
}

/// Days since 1970-01-01 of a Gregorian date: March is month 0, so that a leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = (month + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_published_api_writes_them() {
        for (text, seconds) in [
            ("1970-01-01 00:00:00 +0000 +00", 0),
            ("2026-11-23 15:04:05 +0100 +01", 1_795_442_645),
            ("2024-02-29 12:00:00 -0530 -05", 1_709_227_800),
        ] {
            assert_eq!(time_in(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn other_times_are_refused() {
        for text in [
            "soon",
            "2026-11-23",
            "2026-13-01 00:00:00 +0000 +00",
            "2026-11-23 25:00:00 +0000",
            "2026-11-23 1:2:3 0000",
            "2026-11-+3 01:02:03 +0000",
        ] {
            assert_eq!(
                time_in(text).unwrap_err().code(),
                tonic::Code::InvalidArgument,
                "{text}"
            );
        }
    }

    #[test]
    fn a_filter_that_wants_no_downstream_entries_is_no_filter() {
        let ours = TrustDomain::parse("plant.test").unwrap();
        let filter = |by_downstream| entry::list_entries_request::Filter {
            by_downstream,
            ..Default::default()
        };
        for (given, used) in [(None, None), (Some(false), None), (Some(true), Some(true))] {
            assert_eq!(entry_filter(Some(filter(given)), &ours).unwrap().downstream, used);
        }
    }

    #[test]
    fn a_filter_for_another_trust_domain_is_refused_and_not_answered_with_nothing() {
        let ours = TrustDomain::parse("plant.test").unwrap();
        let id = Some(types::Spiffeid {
            trust_domain: "other.test".to_owned(),
            path: "/a".to_owned(),
        });
        let by_subject = entry::list_entries_request::Filter {
            by_spiffe_id: id.clone(),
            ..Default::default()
        };
        let by_parent = entry::list_entries_request::Filter {
            by_parent_id: id,
            ..Default::default()
        };
        for (filter, what) in [(by_subject, "SPIFFE ID"), (by_parent, "parent ID")] {
            let refused = entry_filter(Some(filter), &ours).unwrap_err();
            let words = format!("malformed {what} filter: \"spiffe://other.test/a\" is not a member of");
            assert!(refused.message().starts_with(&words), "{refused}");
        }
    }

    #[test]
    fn an_unknown_match_is_refused() {
        assert!(match_kind(4).is_err());
        assert!(match_kind(-1).is_err());
    }
}
