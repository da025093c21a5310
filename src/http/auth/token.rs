//! Access tokens in the form of a JWT, and their validation (RFC 7519, RFC 8725, RFC 9068).

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use crate::archive::access::{Caller, Roles};
use crate::config::{AuthSettings, SigningAlgorithm};
use crate::http::auth::Error;

/// The requirements on a token.
pub(super) struct TokenRules {
    issuer: String,
    algorithms: Vec<Algorithm>,
    /// The requirements but the algorithm, which each token names.
    validation: Validation,
    max_bytes: usize,
    tenant_claim: String,
    roles_claim: String,
    roles: Roles,
}

/// The signature algorithm and key that a token names.
pub(super) struct TokenHeader {
    pub(super) algorithm: Algorithm,
    /// The key ID.
    pub(super) key_id: Option<String>,
}

impl TokenRules {
    /// The requirements of the settings.
    pub(super) fn of(settings: &AuthSettings) -> Self {
        let mut validation = Validation::default();
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&settings.audiences);
        validation.validate_nbf = true;
        validation.leeway = settings.leeway_seconds;
        Self {
            issuer: settings.issuer.clone(),
            algorithms: settings.algorithms.iter().copied().map(algorithm).collect(),
            validation,
            max_bytes: settings.max_token_bytes,
            tenant_claim: settings.tenant_claim.clone(),
            roles_claim: settings.roles_claim.clone(),
            roles: Roles::of(settings),
        }
    }

    /// Parses the header of a token, before the signature is checked.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the token is no JWT, is too long, or is signed by an algorithm that the settings
    /// do not allow.
    pub(super) fn header(&self, token: &str) -> Result<TokenHeader, Error> {
        if token.len() > self.max_bytes {
            return Err(Error::Invalid("is longer than auth.max_token_bytes"));
        }
        // The library refuses unknown algorithms, `none` included.
        let header = decode_header(token).map_err(|_| Error::Invalid("is no JWT that is signed"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Error::Invalid("is signed by an algorithm that is not in auth.algorithms"));
        }
        if header.typ.as_deref().is_some_and(|name| !is_access_token(name)) {
            return Err(Error::Invalid("is of another type than JWT and at+jwt"));
        }
        // Extensions that must be understood (RFC 7515 §4.1.11); this server supports none.
        if header.crit.is_some() {
            return Err(Error::Invalid("has a critical extension"));
        }
        Ok(TokenHeader { algorithm: header.alg, key_id: header.kid })
    }

    /// Checks a token by a key, and returns the caller that it names.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the token is of another provider, for another server, expired or not valid yet;
    /// [`Error::Tenant`] if the token is valid, but names no tenant.
    pub(super) fn caller(
        &self,
        token: &str,
        header: &TokenHeader,
        key: &DecodingKey,
    ) -> Result<Caller, Error> {
        let validation = Validation { algorithms: vec![header.algorithm], ..self.validation.clone() };
        let claims: Map<String, Value> = match decode(token, key, &validation) {
            Ok(token) => token.claims,
            Err(error) => return Err(Error::Invalid(reason(error.kind()))),
        };
        // The library accepts a list of issuers if one of them matches.
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(Error::Invalid(reason(&ErrorKind::InvalidIssuer)));
        }
        if is_for_another_use(&claims) {
            return Err(Error::Invalid("is no access token"));
        }
        let tenant =
            claim(&claims, &self.tenant_claim).and_then(Value::as_str).and_then(|name| name.parse().ok());
        let tenant = tenant.ok_or_else(|| Error::Tenant { claim: self.tenant_claim.clone() })?;
        let rights = self.roles.rights(&claim(&claims, &self.roles_claim).map(listed).unwrap_or_default());
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        // The library has checked that the claim is there, and a number.
        let leeway = i64::try_from(self.validation.leeway).unwrap_or(0);
        let expires_at = claims.get("exp").and_then(seconds).map(|at| at.saturating_add(leeway));
        let (subject, client) = (subject.into(), "".into());
        Ok(Caller { tenant, subject, client, rights, expires_at, is_background: false, share: None })
    }
}

/// A time in a claim (RFC 7519 §2, NumericDate), in whole seconds since 1970 UTC.
fn seconds(claim: &Value) -> Option<i64> {
    claim.as_i64().or_else(|| claim.as_f64().map(|at| at as i64))
}

/// Whether a type of a token's header may be that of an access token (RFC 9068 §2.1, RFC 7519 §5.1).
/// Providers that do not follow RFC 9068 say `JWT`, or nothing.
fn is_access_token(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("application/").unwrap_or(&name);
    ["jwt", "at+jwt"].contains(&name)
}

/// Whether claims say that a token is an ID token or a refresh token. Keycloak says it in `typ`, Amazon
/// Cognito in `token_use`; an ID token may have the digest of the access token (OpenID Connect Core §3.1.3.6,
/// §3.3.2.11).
fn is_for_another_use(claims: &Map<String, Value>) -> bool {
    let is_other = |claim: &str, access: &[&str]| {
        let found = claims.get(claim).map(|value| value.as_str().unwrap_or_default().to_ascii_lowercase());
        found.is_some_and(|name| !access.contains(&name.as_str()))
    };
    is_other("typ", &["bearer", "jwt", "at+jwt"])
        || is_other("token_use", &["access"])
        || ["at_hash", "c_hash"].iter().any(|claim| claims.contains_key(*claim))
}

fn algorithm(setting: SigningAlgorithm) -> Algorithm {
    match setting {
        SigningAlgorithm::RS256 => Algorithm::RS256,
        SigningAlgorithm::RS384 => Algorithm::RS384,
        SigningAlgorithm::RS512 => Algorithm::RS512,
        SigningAlgorithm::PS256 => Algorithm::PS256,
        SigningAlgorithm::PS384 => Algorithm::PS384,
        SigningAlgorithm::PS512 => Algorithm::PS512,
        SigningAlgorithm::ES256 => Algorithm::ES256,
        SigningAlgorithm::ES384 => Algorithm::ES384,
        SigningAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// The reason why a token is not valid, in the characters of a header field.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidIssuer => "is of another issuer than auth.issuer",
        ErrorKind::InvalidAudience => "is for none of auth.audiences",
        ErrorKind::InvalidSignature => "has a wrong signature",
        ErrorKind::MissingRequiredClaim(_) => "lacks one of the claims exp, iss and aud",
        _ => "cannot be read",
    }
}

/// A claim by its name, or by a path of names with dots between them.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// The texts of a list; a single text is split at spaces (RFC 6749 §3.3).
fn listed(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => text.split(' ').collect(),
        _ => Vec::new(),
    }
}
