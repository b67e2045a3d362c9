//! A place that is cut off at each of its calls, and what it then still opens.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb_core::ErrorKind;
use pugdb_core::env::os::OsRandom;
use pugdb_sim::World;

use super::*;
use crate::provider::RootProvider;
use crate::{Rotation, Vault};

/// Any kind will do.
const KIND: Kind = Kind::KeyFile;
const KEYRING: &str = "KEYRING";

/// Keys in memory, which outlive the process.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    keys: Vec<(DatabaseId, KeyName, Secret)>,
    calls: usize,
    cut: Option<Cut>,
    is_off: bool,
}

/// From this call on nothing is done any more. Its answer is lost either way.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Before(usize),
    After(usize),
}

impl Fake {
    fn cut(&self, cut: Option<Cut>) {
        let mut state = self.0.lock();
        (state.calls, state.cut, state.is_off) = (0, cut, false);
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.0.lock();
        let call = state.calls;
        state.calls += 1;
        let off = || Error::unavailable("the place is cut off");
        match state.cut {
            Some(Cut::Before(at)) if at == call => state.is_off = true,
            Some(Cut::After(at)) if at == call && !state.is_off => {
                let _ = work(&mut state);
                state.is_off = true;
                return Err(off());
            }
            _ => (),
        }
        if state.is_off { Err(off()) } else { work(&mut state) }
    }

    fn keys_of(&self, database: DatabaseId) -> Vec<KeyName> {
        self.0.lock().keys.iter().filter(|key| key.0 == database).map(|key| key.1).collect()
    }
}

impl State {
    fn key(&self, database: DatabaseId, name: KeyName) -> Secret {
        self.keys.iter().find(|key| (key.0, key.1) == (database, name)).unwrap().2.clone()
    }
}

impl KeyStore for Fake {
    fn list(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        self.call(|state| Ok(state.keys.iter().filter(|key| key.0 == database).map(|key| key.1).collect()))
    }

    fn make(&mut self, _: &Env, database: DatabaseId, name: KeyName) -> Result<()> {
        self.call(|state| {
            state.keys.push((database, name, Secret::random(&OsRandom)));
            Ok(())
        })
    }

    fn destroy(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        self.call(|state| {
            state.keys.retain(|key| (key.0, key.1) != (database, name));
            Ok(())
        })
    }

    fn seal(&mut self, env: &Env, database: DatabaseId, name: KeyName, epoch: &Secret) -> Result<Vec<u8>> {
        self.call(|state| {
            Ok(crate::provider::wrap(env, &state.key(database, name), database, &name.0, epoch))
        })
    }

    fn unseal(&mut self, database: DatabaseId, name: KeyName, sealed: &[u8]) -> Result<Secret> {
        self.call(|state| {
            crate::provider::unwrap(&state.key(database, name), database, &name.0, sealed)?
                .ok_or_else(|| Error::denied("wrong key"))
        })
    }
}

impl RootProvider for Fake {
    fn describe(&self) -> String {
        "the place".to_owned()
    }

    fn protects(&self) -> &'static str {
        ""
    }

    fn destroys(&self) -> bool {
        true
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        wrap(&mut self.clone(), env, KIND, database, epoch)
    }

    fn unwrap(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        unwrap(&mut self.clone(), "the place", KIND, database, wrapped)
    }

    fn settle(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()> {
        settle(&mut self.clone(), "the place", KIND, database, wrapped)
    }
}

/// A database with a keyring, and its root key in a place.
fn made(seed: u64) -> (World, Fake, Arc<Vault>) {
    let (world, place) = (World::new(seed), Fake::default());
    let vault = Vault::create(&world.env(), Path::new(KEYRING), Arc::new(place.clone())).unwrap();
    (world, place, vault)
}

fn open(world: &World, place: &Fake) -> Result<Arc<Vault>> {
    Vault::open(&world.env(), Path::new(KEYRING), Arc::new(place.clone()))
}

fn cuts(calls: usize) -> impl Iterator<Item = Cut> {
    (0..calls).flat_map(|call| [Cut::Before(call), Cut::After(call)])
}

/// How a process ends.
const ENDS: [fn(&World) -> World; 2] = [World::kill, World::power_cut];

/// What the place is asked for by `work`.
fn calls_of(work: impl FnOnce(&Vault) -> Result<Rotation>) -> usize {
    let (_world, place, vault) = made(1);
    place.cut(None);
    work(&vault).unwrap();
    place.0.lock().calls
}

#[test]
fn a_rotation_cut_at_each_call_to_the_place_leaves_the_old_key_or_the_new_one() {
    let calls = calls_of(Vault::rotate);
    assert!(calls >= 5, "list, make, seal, list, destroy");
    let (mut opened_old, mut opened_new) = (0, 0);
    for (cut, end) in cuts(calls).flat_map(|cut| ENDS.map(|end| (cut, end))) {
        let (world, place, vault) = made(2);
        let (database, before) = (vault.database(), vault.status().keyring_generation);
        place.cut(Some(cut));
        assert!(vault.rotate().is_err(), "{cut:?}");
        place.cut(None);
        let again = open(&end(&world), &place).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert_eq!(again.database(), database);
        if again.status().keyring_generation == before {
            opened_old += 1;
        } else {
            opened_new += 1;
        }
        assert_eq!(place.keys_of(database).len(), 1, "{cut:?}: what the attempt has left is destroyed");
        again.rotate().unwrap();
    }
    assert!(opened_old > 0 && opened_new > 0, "the keyring is written in between");
}

#[test]
fn a_rotation_that_was_cut_off_goes_on_to_work_and_is_made_good_by_the_next() {
    for cut in cuts(calls_of(Vault::rotate)) {
        let (world, place, vault) = made(3);
        place.cut(Some(cut));
        assert!(vault.rotate().is_err());
        place.cut(None);
        vault.rotate().unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert_eq!(place.keys_of(vault.database()).len(), 1, "{cut:?}");
        drop(vault);
        open(&world.power_cut(), &place).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
    }
}

#[test]
fn a_rotation_cut_at_each_call_to_the_disk_leaves_the_old_key_or_the_new_one() {
    for (call, end) in (0..40).flat_map(|call| ENDS.map(|end| (call, end))) {
        let (world, place, vault) = made(4);
        world.stop_at(world.calls() + call);
        let _ = vault.rotate();
        let again = open(&end(&world), &place).unwrap_or_else(|error| panic!("call {call}: {error}"));
        assert_eq!(place.keys_of(again.database()).len(), 1, "call {call}");
    }
}

#[test]
fn an_opening_cut_at_each_call_loses_no_key_that_is_needed() {
    let (world, place, vault) = made(5);
    let destroying = calls_of(Vault::rotate) - 1;
    place.cut(Some(Cut::Before(destroying)));
    assert!(vault.rotate().is_err(), "the old key stays");
    let database = vault.database();
    assert_eq!(place.keys_of(database).len(), 2);
    drop(vault);
    for cut in cuts(4) {
        place.cut(Some(cut));
        let _ = open(&world.kill(), &place);
    }
    place.cut(None);
    open(&world.kill(), &place).unwrap();
    assert_eq!(place.keys_of(database).len(), 1);
}

#[test]
fn a_creation_cut_at_each_call_keeps_nobody_from_making_the_database() {
    for cut in cuts(4) {
        let (world, place) = (World::new(6), Fake::default());
        place.cut(Some(cut));
        let create = |world: &World| Vault::create(&world.env(), Path::new(KEYRING), Arc::new(place.clone()));
        let is_cut = create(&world).is_err();
        place.cut(None);
        let world = world.kill();
        let opened = if Vault::exists(&world.env(), Path::new(KEYRING)).unwrap() {
            open(&world, &place)
        } else {
            create(&world)
        };
        let vault = opened.unwrap_or_else(|error| panic!("{cut:?}, {is_cut}: {error}"));
        assert_eq!(place.keys_of(vault.database()).len(), 1, "{cut:?}");
    }
}

#[test]
fn last_weeks_keyring_and_a_key_that_is_gone_are_told_apart_and_cost_nothing() {
    let (world, place, vault) = made(7);
    let database = vault.database();
    let old = world.read_file(KEYRING).unwrap();
    let [old_name] = place.keys_of(database)[..] else { panic!("one key") };
    vault.rotate().unwrap();
    let new = world.read_file(KEYRING).unwrap();
    let [new_name] = place.keys_of(database)[..] else { panic!("one key") };
    drop(vault);
    world.write_file(KEYRING, &old).unwrap();
    let error = open(&world, &place).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let message = error.to_string();
    assert!(message.contains(&old_name.digits()) && message.contains(&new_name.digits()), "{message}");
    assert_eq!(place.keys_of(database), [new_name], "it was left alone");
    world.write_file(KEYRING, &new).unwrap();
    open(&world, &place).unwrap();

    place.0.lock().keys.clear();
    let error = open(&world, &place).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&format!("no root key of database {database}")), "{error}");
}

#[test]
fn settling_destroys_the_keys_of_its_database_and_only_when_its_own_is_there() {
    let (env, place, epoch) = (Env::os(), Fake::default(), Secret::copy(&[1; 32]));
    let [one, other] = [DatabaseId([1; 16]), DatabaseId([2; 16])];
    let first = place.wrap(&env, one, &epoch).unwrap();
    let second = place.wrap(&env, one, &epoch).unwrap();
    let foreign = place.wrap(&env, other, &epoch).unwrap();
    assert!(place.unwrap(&env, one, &first).is_ok() && place.unwrap(&env, one, &second).is_ok());
    for _ in 0..2 {
        place.settle(&env, one, &second).unwrap();
        assert_eq!((place.keys_of(one).len(), place.keys_of(other).len()), (1, 1));
    }
    assert_eq!(place.settle(&env, one, &first).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(place.unwrap(&env, one, &first).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    assert!(place.unwrap(&env, one, &second).unwrap() == epoch, "it is still there");
    for (database, wrapped) in [(one, &foreign), (other, &second)] {
        assert_eq!(place.unwrap(&env, database, wrapped).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    }
}

#[test]
fn a_wrapped_key_that_was_changed_or_cut_anywhere_is_refused() {
    let (env, place, database) = (Env::os(), Fake::default(), DatabaseId([1; 16]));
    let wrapped = place.wrap(&env, database, &Secret::copy(&[1; 32])).unwrap();
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        for bytes in [&changed[..], &wrapped[..at]] {
            let kind = place.unwrap(&env, database, bytes).map(drop).unwrap_err().kind();
            assert!([ErrorKind::Denied, ErrorKind::Corrupt].contains(&kind), "{at}: {kind:?}");
        }
        let is_named = (1..9).contains(&at);
        let settled = place.settle(&env, database, &changed);
        assert_eq!(settled.is_err(), at == 0 || is_named, "{at}");
        assert_eq!(place.keys_of(database).len(), 1);
    }
}

#[test]
fn rotations_that_never_come_through_end_before_the_place_is_full() {
    let (env, place, database) = (Env::os(), Fake::default(), DatabaseId([1; 16]));
    let wrap = || place.wrap(&env, database, &Secret::copy(&[1; 32]));
    let first = wrap().unwrap();
    let refused: Vec<_> = (0..100).filter_map(|_| wrap().err()).collect();
    assert_eq!(refused[0].kind(), ErrorKind::Unavailable);
    assert_eq!(place.keys_of(database).len(), KEYS_MAX);
    place.settle(&env, database, &first).unwrap();
    assert!(wrap().is_ok());
}
