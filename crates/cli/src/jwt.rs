//! `landfast jwt`.

use clap::Subcommand;
use landfast_workload_api::client::{ClientError, ValidatedJwt};
use prost_types::value::Kind;
use serde_json::{Map, Value, json};

use crate::cli::Globals;
use crate::failure::Failure;
use crate::{connect, inspect, output};

#[derive(Subcommand, Debug)]
pub(crate) enum JwtCommand {
    /// Have the agent validate a JWT-SVID against its bundles [local agent].
    Validate {
        /// Whom the token must be meant for.
        #[arg(long)]
        audience: String,
        /// The token; `-` reads it from standard input.
        token: String,
    },
}

pub(crate) async fn run(command: JwtCommand, globals: &Globals) -> Result<(), Failure> {
    let JwtCommand::Validate { audience, token } = command;
    let token = if token == "-" {
        inspect::read_text("-".as_ref())?
    } else {
        token
    };
    let mut client = connect::workload(globals).await?;
    let valid = client
        .validate_jwt(&audience, token.trim())
        .await
        .map_err(|error| refused(&error))?;
    if globals.json() {
        return output::print_json(&json!({"spiffe_id": valid.id.as_str(), "claims": claims(&valid)}));
    }
    let mut facts = vec![("valid", "yes".to_owned()), ("spiffe id", valid.id.to_string())];
    facts.push(("claims", claims(&valid).to_string()));
    output::print(&output::facts(&facts))
}

fn refused(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused(status) if status.code() == tonic::Code::InvalidArgument => Failure::failed(
            format!("not valid: {}", status.message()),
            "landfast svid inspect shows the token's audience, issuer and times",
        ),
        other => connect::workload_failure(other),
    }
}

fn claims(valid: &ValidatedJwt) -> Value {
    let object = valid
        .claims
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), to_json(value.kind.as_ref(), 0)));
    Value::Object(object.collect::<Map<_, _>>())
}

/// Numbers arrive as doubles; whole ones are shown as such.
fn to_json(kind: Option<&Kind>, depth: usize) -> Value {
    if depth > DEPTH {
        return Value::String("…".to_owned());
    }
    match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        #[expect(clippy::cast_possible_truncation, reason = "guarded: whole and below 2^53")]
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
            json!(*number as i64)
        }
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::BoolValue(yes)) => Value::Bool(*yes),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|value| to_json(value.kind.as_ref(), depth + 1))
            .collect(),
        Some(Kind::StructValue(object)) => {
            let fields = object
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), to_json(value.kind.as_ref(), depth + 1)));
            Value::Object(fields.collect())
        }
    }
}

const DEPTH: usize = 32;
