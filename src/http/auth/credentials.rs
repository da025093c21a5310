//! What an operation needs of its caller, and the credentials that this server signs itself: the capability
//! of a link that was opened, and signed URLs.

use axum::http::Uri;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::archive::access::{Caller, Right, Rights, Tenant};
use crate::archive::signing::Signature;
use crate::archive::{self, Archive};
use crate::clock::now_millis;
use crate::http::auth::Error;
use crate::http::error::Error as HttpError;

/// The beginning of the capability of a link; no JWT begins so.
const CAPABILITY: &str = "cuspid-share.";
/// The first parameter of a signature in a URL. The parameters of a signature are the last ones, in order.
const KEY: &str = "cuspid-key=";
const EXPIRES: &str = "&cuspid-expires=";
const SHARE: &str = "&cuspid-share=";
const SIGNATURE: &str = "&cuspid-signature=";

/// What an operation needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Needs {
    /// The right, if one is needed.
    pub(in crate::http) right: Option<Right>,
    /// Whether callers who have opened a share may use the operation.
    pub(in crate::http) by_share: ByShare,
    /// Whether a signed URL may take the place of a token.
    pub(in crate::http) by_url: bool,
}

/// Whether callers who have opened a share may use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ByShare {
    /// They may not.
    No,
    /// They may, for the share's objects: the archive gives them no others.
    View,
    /// They may, for the share's objects, if the share is to be downloaded.
    Download,
}

impl Needs {
    /// Checks the right of a caller.
    ///
    /// # Errors
    /// [`Error::Share`] if the caller has opened a share that does not allow the operation; [`Error::Right`]
    /// if the caller lacks the right.
    pub(super) fn check(&self, caller: &Caller) -> Result<(), Error> {
        if let Some(share) = &caller.share {
            match self.by_share {
                ByShare::View => {}
                ByShare::Download if share.may_download => {}
                ByShare::Download => return Err(Error::Share("allows to view, and not to download")),
                ByShare::No => return Err(Error::Share("does not allow this")),
            }
        }
        match self.right.filter(|right| !caller.rights.include(*right)) {
            Some(right) => Err(Error::Right { right, caller: Box::new(caller.clone()) }),
            None => Ok(()),
        }
    }
}

/// Makes the capability of a link that was opened, which is a bearer token until `expires_at` (in seconds
/// since 1970 UTC).
pub(in crate::http) async fn capability(
    archive: &Archive,
    tenant: &Tenant,
    share: &str,
    expires_at: i64,
) -> Result<String, archive::Error> {
    let claims = format!("{}\n{share}\n{expires_at}", tenant.as_str());
    let Signature { period, code } = archive.sign(tenant, &of_capability(&claims)).await?;
    let (claims, code) = (URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(code));
    Ok(format!("{CAPABILITY}{claims}.{period}.{code}"))
}

/// The text of a capability that is signed.
fn of_capability(claims: &str) -> Vec<u8> {
    format!("capability 1\n{claims}").into_bytes()
}

/// The caller of a capability; `None` if the token is of another kind.
pub(super) async fn caller_by_capability(
    archive: &Archive,
    token: &str,
) -> Option<Result<Caller, HttpError>> {
    let rest = token.strip_prefix(CAPABILITY)?;
    Some(match read_capability(rest) {
        Some(found) => verified(archive, found).await,
        None => Err(Error::Invalid("cannot be read").into()),
    })
}

/// What a signature of this server gives.
struct SignedClaims {
    tenant: Tenant,
    /// The share; `None` for all of the tenant's objects.
    share: Option<String>,
    /// The end, in seconds since 1970 UTC.
    expires_at: i64,
    /// The text that is signed.
    text: Vec<u8>,
    signature: Signature,
}

fn read_capability(text: &str) -> Option<SignedClaims> {
    let mut parts = text.split('.');
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
    let period = parts.next()?.parse().ok()?;
    let code = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let mut lines = claims.split('\n');
    let (tenant, share, expires_at) = (lines.next()?, lines.next()?, lines.next()?);
    if parts.next().is_some() || lines.next().is_some() {
        return None;
    }
    Some(SignedClaims {
        tenant: tenant.parse().ok()?,
        share: Some(share.to_owned()),
        expires_at: expires_at.parse().ok()?,
        text: of_capability(&claims),
        signature: Signature { period, code },
    })
}

/// The caller of claims whose signature is right.
async fn verified(archive: &Archive, claims: SignedClaims) -> Result<Caller, HttpError> {
    let SignedClaims { tenant, share, expires_at, text, signature } = claims;
    if !archive.verify_signature(&tenant, &text, &signature).await? {
        return Err(Error::Invalid("has a wrong signature").into());
    }
    if now_millis().div_euclid(1000) >= expires_at {
        return Err(Error::Invalid("has expired").into());
    }
    if let Some(share) = share {
        let caller = archive.caller_of_share(tenant, &share, expires_at).await?;
        return caller.ok_or_else(|| Error::Invalid("is of a share that has ended").into());
    }
    let (rights, expires_at) = (Rights::of(&[Right::Read]), Some(expires_at));
    Ok(Caller { tenant, subject: "signed-url".into(), rights, expires_at, ..Caller::anonymous() })
}

/// Signs the URL of a resource, from its path on: whoever has the URL may read the resource as `caller` may,
/// until `expires_at` (in seconds since 1970 UTC).
pub(in crate::http) async fn signed_url(
    archive: &Archive,
    caller: &Caller,
    url: &str,
    expires_at: i64,
) -> Result<String, archive::Error> {
    let tenant = &caller.tenant;
    let period = archive.signing_period();
    let joint = if url.contains('?') { '&' } else { '?' };
    let mut signed = format!("{url}{joint}{KEY}{}.{period}{EXPIRES}{expires_at}", tenant.as_str());
    if let Some(share) = &caller.share {
        signed += SHARE;
        signed += &share.id;
    }
    let signature = archive.sign(tenant, &of_url(&signed)).await?;
    if signature.period != period {
        // A period has ended between both.
        return Err(archive::Error::NotReady("the signing key has just changed".into()));
    }
    signed += SIGNATURE;
    signed += &URL_SAFE_NO_PAD.encode(signature.code);
    Ok(signed)
}

/// The text of a URL that is signed: the method, the path and the query before the signature.
fn of_url(url: &str) -> Vec<u8> {
    format!("url 1\nGET {url}").into_bytes()
}

/// The caller of a signed URL, and the URL without the signature; `None` if the URL is not signed.
pub(super) async fn caller_by_url(archive: &Archive, uri: &Uri) -> Option<Result<(Caller, Uri), HttpError>> {
    let query = uri.query()?;
    let at = query.match_indices(KEY).map(|(at, _)| at).find(|at| *at == 0 || query[..*at].ends_with('&'))?;
    let plain = query[..at].trim_end_matches('&');
    let found = read_url(uri.path(), query, &query[at + KEY.len()..]).zip(without(uri, plain));
    Some(match found {
        Some((claims, plain)) => verified(archive, claims).await.map(|caller| (caller, plain)),
        None => Err(Error::Invalid("in the URL cannot be read").into()),
    })
}

fn read_url(path: &str, query: &str, parameters: &str) -> Option<SignedClaims> {
    let (claims, code) = parameters.rsplit_once(SIGNATURE)?;
    let (key, rest) = claims.split_once(EXPIRES)?;
    let (tenant, period) = key.rsplit_once('.')?;
    let (expires_at, share) = match rest.split_once(SHARE) {
        Some((expires_at, share)) => (expires_at, Some(share.to_owned())),
        None => (rest, None),
    };
    let signed = &query[..query.len() - SIGNATURE.len() - code.len()];
    Some(SignedClaims {
        tenant: tenant.parse().ok()?,
        share,
        expires_at: expires_at.parse().ok()?,
        text: of_url(&format!("{path}?{signed}")),
        signature: Signature { period: period.parse().ok()?, code: URL_SAFE_NO_PAD.decode(code).ok()? },
    })
}

/// A URL with another query; none if that is empty.
fn without(uri: &Uri, query: &str) -> Option<Uri> {
    let path = uri.path();
    let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}
