//! Whether a secret is a user's. What is slow to guess is slow to check, so few are checked at a time, and what was right
//! is remembered for as long as the user stays as it is.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use pugdb_core::env::Random;
use ring::hmac;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::credential::{Cost, Credential, ScramVerifier, Verifier, hashed};
use super::limits::{HASHES_AT_ONCE, VERIFIED_MAX};
use super::user::User;
use crate::secret::Secret;

const SALT_BYTES: usize = 16;

/// Checks secrets, and makes what is kept of them.
pub struct Authenticator {
    random: Arc<dyn Random>,
    /// Of this process alone: what is remembered says nothing to anybody else.
    key: Secret,
    /// Each guards the memory that one check works in.
    turns: [Mutex<()>; HASHES_AT_ONCE],
    next_turn: AtomicUsize,
    /// Guards what was right.
    verified: Mutex<Verified>,
    /// Checks that were paid for, for tests and for who wonders.
    paid: AtomicUsize,
}

type Mark = [u8; 32];

#[derive(Default)]
struct Verified {
    known: HashSet<Mark>,
    /// The oldest first.
    order: VecDeque<Mark>,
}

impl Verified {
    fn add(&mut self, mark: Mark) {
        if self.known.insert(mark) {
            self.order.push_back(mark);
        }
        if self.order.len() > VERIFIED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

impl Authenticator {
    /// One that remembers nothing yet.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self {
            key: Secret::random(&*random),
            random,
            turns: std::array::from_fn(|_| Mutex::new(())),
            next_turn: AtomicUsize::new(0),
            verified: Mutex::default(),
            paid: AtomicUsize::new(0),
        }
    }

    /// Whether a secret is a user's, and the user may log in. A user that is not there costs what a wrong password costs.
    pub fn accepts(&self, user: Option<&User>, secret: &[u8]) -> bool {
        if let Some(user) = user
            && user.is_on
            && user.needs_no_password
        {
            return true;
        }
        if self.remembers(user, secret) {
            return true;
        }
        let nobody = Verifier { cost: Cost::OURS, salt: vec![0; SALT_BYTES], hash: [0; 32] };
        let credentials = user.map_or(&[][..], |user| &user.credentials);
        let token = hashed(secret);
        let (mut is_right, mut hashes) = (Choice::from(0), Vec::<(Cost, &[u8], Mark)>::new());
        for credential in credentials {
            match credential {
                Credential::Token(digest) => is_right |= digest.ct_eq(&token),
                Credential::Password { verifier, .. } => {
                    let known = hashes
                        .iter()
                        .find(|(cost, salt, _)| (*cost, *salt) == (verifier.cost, &verifier.salt));
                    let hash = known
                        .map_or_else(|| self.hash(verifier.cost, &verifier.salt, secret), |known| known.2);
                    is_right |= hash.ct_eq(&verifier.hash);
                    hashes.push((verifier.cost, &verifier.salt, hash));
                }
                Credential::Certificate(_) => {}
            }
        }
        let is_right = bool::from(is_right);
        // A token that is right need not be slow. Anything that is wrong costs one hash at least.
        if hashes.is_empty() && !is_right {
            let _ = self.hash(nobody.cost, &nobody.salt, secret);
        }
        let is_right = is_right && user.is_some_and(|user| user.is_on);
        if is_right {
            self.verified.lock().add(self.mark(user, secret));
        }
        is_right
    }

    /// Whether this secret was right before, and neither the user nor its credentials have changed. It costs nothing.
    pub fn remembers(&self, user: Option<&User>, secret: &[u8]) -> bool {
        user.is_some_and(|user| user.is_on) && self.verified.lock().known.contains(&self.mark(user, secret))
    }

    /// Forgets all that was right.
    pub fn forget(&self) {
        *self.verified.lock() = Verified::default();
    }

    /// How many checks were paid for.
    pub fn paid(&self) -> usize {
        self.paid.load(Ordering::Relaxed)
    }

    /// What stands for a secret of a user with just these credentials.
    fn mark(&self, user: Option<&User>, secret: &[u8]) -> Mark {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.expose());
        let mut context = hmac::Context::with_key(&key);
        let (name, words) =
            user.map_or((String::new(), Vec::new()), |user| (user.name.clone(), user.credential_words()));
        for part in [name.as_bytes(), secret].into_iter().chain(words.iter().map(String::as_bytes)) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("a tag of HMAC-SHA-256 has 32 bytes")
    }

    /// What is kept of a new password, with the salt and the cost of another one of the same user.
    pub(super) fn make(&self, password: &[u8], known: Option<&Verifier>) -> (Verifier, ScramVerifier) {
        let salt = || {
            let mut salt = vec![0; SALT_BYTES];
            self.random.fill(&mut salt);
            salt
        };
        let (cost, own_salt) =
            known.map_or_else(|| (Cost::OURS, salt()), |known| (known.cost, known.salt.clone()));
        let hash = self.hash(cost, &own_salt, password);
        let scram = ScramVerifier::derive(password, &salt(), ScramVerifier::ITERATIONS)
            .expect("our own count and salt are fine");
        (Verifier { cost, salt: own_salt, hash }, scram)
    }

    pub(super) fn matches(&self, verifier: &Verifier, password: &[u8]) -> bool {
        self.hash(verifier.cost, &verifier.salt, password).ct_eq(&verifier.hash).into()
    }

    /// Argon2id. It takes its turn for the memory.
    fn hash(&self, cost: Cost, salt: &[u8], secret: &[u8]) -> Mark {
        self.paid.fetch_add(1, Ordering::Relaxed);
        let free = self.turns.iter().find_map(|turn| turn.try_lock());
        let _turn = free.unwrap_or_else(|| {
            let next = self.next_turn.fetch_add(1, Ordering::Relaxed) % HASHES_AT_ONCE;
            self.turns[next].lock()
        });
        let mut hash = Zeroizing::new([0; 32]);
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(hash.len()));
        let params = params.expect("a cost that was parsed, or is ours, is within what Argon2 allows");
        let mut memory = vec![Block::new(); params.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hashed = argon2.hash_password_into_with_memory(secret, salt, hash.as_mut_slice(), &mut memory);
        for block in &mut memory {
            block.zeroize();
        }
        hashed.expect("salt, secret and output have lengths that Argon2 allows");
        *hash
    }
}
