//! What `[login]` and `[[oidc]]` say.

use std::time::Duration;

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::{RawLogin, RawOidc};
use crate::federation::read_roots;
use crate::login::{LoginConfig, MAX_PROVIDERS, ProviderConfig};
use crate::people::OidcSubject;
use crate::registry::EndpointUrl;

impl Checker<'_> {
    pub(super) fn login(&self, raw: &RawLogin, oidc: &[RawOidc]) -> Result<LoginConfig, ConfigError> {
        let usual = LoginConfig::default();
        let longest = self.duration("login.longest", raw.longest, usual.longest, LEAST)?;
        if longest > MOST {
            let shown = format!("{} s", longest.as_secs());
            let expected = "at most 24h: who steals such a certificate with its key has it until it ends";
            return Err(self.invalid("login.longest", &shown, expected));
        }
        if oidc.len() > MAX_PROVIDERS {
            let expected = format!("at most {MAX_PROVIDERS} tables");
            return Err(self.invalid("oidc", &oidc.len().to_string(), &expected));
        }
        for (at, table) in oidc.iter().enumerate() {
            if oidc.iter().take(at).any(|other| other.issuer == table.issuer) {
                return Err(self.invalid("oidc.issuer", &table.issuer, "one table an issuer"));
            }
        }
        let providers = oidc.iter().map(|table| self.provider(table));
        Ok(LoginConfig {
            longest,
            providers: providers.collect::<Result<_, _>>()?,
        })
    }

    fn provider(&self, raw: &RawOidc) -> Result<ProviderConfig, ConfigError> {
        // Of a subject that any provider may have: what is judged is the issuer.
        if OidcSubject::new(&raw.issuer, "x").is_none() || EndpointUrl::parse(&raw.issuer).is_err() {
            let expected = "an https URL without query, as the provider writes itself in `iss`";
            return Err(self.invalid("oidc.issuer", &raw.issuer, expected));
        }
        if raw.client_id.is_empty() || raw.client_id.len() > MAX_CLIENT_ID {
            let expected = "what the provider knows `landfast login` as";
            return Err(self.invalid("oidc.client_id", &raw.client_id, expected));
        }
        let web_roots = raw.web_roots.as_deref().map(|path| {
            let shown = path.display().to_string();
            read_roots(path).map_err(|expected| self.invalid("oidc.web_roots", &shown, &expected))
        });
        Ok(ProviderConfig {
            issuer: raw.issuer.clone(),
            client_id: raw.client_id.clone(),
            web_roots: web_roots.transpose()?,
        })
    }
}

const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(86_400);
const MAX_CLIENT_ID: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    const TABLE: &str = "[[oidc]]\nissuer = \"https://id.plant.example/realm\"\nclient_id = \"landfast\"\n";

    fn with(text: &str) -> Result<LoginConfig, String> {
        load(&format!("trust_domain = \"plant.example\"\n{text}")).map(|config| config.login)
    }

    #[test]
    fn a_login_lasts_for_hours_and_providers_are_named_once() {
        let usual = with("").unwrap();
        assert_eq!(
            (usual.longest, usual.providers.len()),
            (Duration::from_secs(8 * 3600), 0)
        );
        assert_eq!(usual.usual(), Duration::from_secs(3600));
        let short = with("[login]\nlongest = \"10m\"\n").unwrap();
        assert_eq!(
            short.usual(),
            Duration::from_secs(600),
            "never more than the longest"
        );
        let one = with(TABLE).unwrap();
        assert_eq!(one.providers[0].issuer, "https://id.plant.example/realm");
        let many: String = (0..9).map(|n| TABLE.replace("realm", &n.to_string())).collect();
        for (text, key) in [
            ("[login]\nlongest = \"25h\"\n", "login.longest"),
            ("[login]\nlongest = \"59s\"\n", "login.longest"),
            (&TABLE.repeat(2), "oidc.issuer"),
            (&TABLE.replace("https", "http"), "oidc.issuer"),
            (&TABLE.replace("realm", "?x"), "oidc.issuer"),
            (&TABLE.replace("\"landfast\"", "\"\""), "oidc.client_id"),
            (&format!("{TABLE}web_roots = \"/nowhere\"\n"), "oidc.web_roots"),
            (&many, "at most 8 tables"),
        ] {
            let refused = with(text).unwrap_err();
            assert!(refused.contains(key), "{text}: {refused}");
        }
    }
}
