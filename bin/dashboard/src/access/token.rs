//! Tokens, and the browser sessions that they seal.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::scope::Scope;

/// A token, and what it opens.
pub(super) struct Token {
    pub(super) scope: Scope,
    pub(super) text: String,
    /// Seals sessions. Stretched from the token, so that nobody who has seen a session can try tokens on it by the million.
    seal_key: [u8; 32],
}

impl Token {
    pub(super) fn new(scope: Scope, text: &str) -> Self {
        let mut seal_key = [0; 32];
        // The same in every process with this token: a session holds in all of them.
        let salt = b"sessions of footfall's dashboard";
        pbkdf2::pbkdf2_hmac::<Sha256>(text.as_bytes(), salt, STRETCHING_ROUNDS, &mut seal_key);
        Self { scope, text: text.to_owned(), seal_key }
    }

    pub(super) fn seal(&self, expires_s: u64) -> String {
        let bytes = mac(&self.seal_key, &expires_s.to_string()).finalize().into_bytes();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Some ten milliseconds, once at the start.
const STRETCHING_ROUNDS: u32 = 100_000;

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text.as_bytes());
    mac
}

/// Takes the same time wherever the first difference is.
pub(super) fn is_same(known: &str, given: &str) -> bool {
    const COMPARED: &[u8] = b"compared";
    mac(COMPARED, known).verify(&mac(COMPARED, given).finalize().into_bytes()).is_ok()
}
