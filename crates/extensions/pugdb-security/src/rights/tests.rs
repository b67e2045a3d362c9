//! Rights as a table: words, what is asked for, what comes of it; and what is hostile.

use std::sync::Arc;

use proptest::prelude::*;
use pugdb_core::env::os::OsRandom;

use super::*;

/// The actions of a small face.
const ACTIONS: &[(&str, &[&str])] = &[
    ("acl|setuser", &["admin", "dangerous", "slow"]),
    ("config", &["slow"]),
    ("config|get", &["admin", "dangerous", "slow"]),
    ("config|set", &["admin", "dangerous", "slow"]),
    ("copy", &["keyspace", "write", "slow"]),
    ("del", &["keyspace", "write", "slow"]),
    ("flushdb", &["keyspace", "write", "dangerous", "slow"]),
    ("get", &["read", "string", "fast"]),
    ("getex", &["write", "string", "fast"]),
    ("ping", &["connection", "fast"]),
    ("publish", &["pubsub", "fast"]),
    ("set", &["write", "string", "slow"]),
];

fn known(name: &str) -> bool {
    ACTIONS.iter().any(|(known, _)| *known == name)
}

fn action(name: &'static str) -> Action<'static> {
    let (_, categories) = ACTIONS.iter().find(|(known, _)| *known == name).unwrap();
    let categories = categories.iter().filter_map(|name| Categories::named(name));
    Action { name, categories: categories.fold(Categories::NONE, Categories::and) }
}

fn passwords() -> Authenticator {
    Authenticator::new(Arc::new(OsRandom))
}

/// Lets the words of a line change a user.
fn apply(user: &mut User, line: &str) -> Result<(), WordError> {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let passwords = passwords();
    joined_words(&words).unwrap().iter().try_for_each(|word| user.apply(word, &passwords, &known))
}

fn user(line: &str) -> User {
    let mut user = User::new("ada");
    apply(&mut user, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    user
}

/// What comes of `get db0 r:a w:b` (`all:rw` for all keys, `@channel`): `yes`, or what is missing.
fn ask(rights: &Rights, user: &User, request: &'static str) -> String {
    let mut words = request.split(' ');
    let name = words.next().unwrap();
    let (mut keyspace, mut keyspaces, mut keys, mut channels, mut whole) =
        ("db0", vec![], vec![], vec![], None);
    let access = |letters| match letters {
        "r" => Access::Read,
        "w" => Access::Write,
        _ => Access::ReadWrite,
    };
    for word in words {
        match word.split_once(':') {
            Some(("all", letters)) => whole = Some(access(letters)),
            Some((letters, key)) => {
                keys.push(KeyUse { keyspace, key: key.as_bytes(), access: access(letters) });
            }
            None if word.starts_with('@') => channels.push(&word.as_bytes()[1..]),
            None => {
                keyspace = word;
                keyspaces.push(word);
            }
        }
    }
    let request =
        Request { action: action(name), keyspaces: &keyspaces, keys: &keys, whole, channels: &channels };
    match rights.check(user, &request) {
        Ok(()) => "yes".into(),
        Err(Denial::Action) => "action".into(),
        Err(Denial::Keyspace) => "keyspace".into(),
        Err(Denial::Key(place)) => format!("key {place}"),
        Err(Denial::Channel(place)) => format!("channel {place}"),
    }
}

/// Words, and for each request what comes of it.
#[rustfmt::skip]
const TABLE: &[(&str, &[(&str, &str)])] = &[
    ("", &[("ping", "action"), ("get db0 r:a", "action"), ("get", "action")]),
    ("+get", &[("get", "yes"), ("get db0 r:a", "key 0"), ("set db0 w:a", "action"), ("get db0", "yes")]),
    ("+get ~a", &[("get db0 r:a", "yes"), ("get db0 r:ab", "key 0"), ("get db0 r:", "key 0"), ("get db0 r:a r:b", "key 1")]),
    ("+get ~a*", &[("get db0 r:a", "yes"), ("get db0 r:abc", "yes"), ("get db0 r:ba", "key 0")]),
    ("+get ~*a", &[("get db0 r:a", "yes"), ("get db0 r:ba", "yes"), ("get db0 r:ab", "key 0")]),
    ("+get ~a?c", &[("get db0 r:abc", "yes"), ("get db0 r:ac", "key 0")]),
    ("+get ~[ab]1", &[("get db0 r:a1", "yes"), ("get db0 r:c1", "key 0")]),
    ("+get ~a\\*", &[("get db0 r:a*", "yes"), ("get db0 r:ab", "key 0")]),
    ("+get ~", &[("get db0 r:", "yes"), ("get db0 r:a", "key 0")]),
    ("+@all %R~a*", &[("get db0 r:a1", "yes"), ("set db0 w:a1", "key 0"), ("getex db0 rw:a1", "key 0")]),
    ("+@all %W~a*", &[("get db0 r:a1", "key 0"), ("set db0 w:a1", "yes"), ("getex db0 rw:a1", "key 0")]),
    ("+@all %RW~a*", &[("get db0 r:a1", "yes"), ("set db0 w:a1", "yes"), ("getex db0 rw:a1", "yes")]),
    // As in Redis, one pattern has to allow both.
    ("+@all %R~a* %W~a*", &[("get db0 r:a1", "yes"), ("set db0 w:a1", "yes"), ("getex db0 rw:a1", "key 0")]),
    ("+copy %R~from:* %W~to:*", &[("copy db0 r:from:1 w:to:1", "yes"), ("copy db0 r:to:1 w:from:1", "key 0"), ("copy db0 r:from:1 w:from:2", "key 1")]),
    ("+@all ~a* resetkeys ~b*", &[("get db0 r:a", "key 0"), ("get db0 r:b", "yes")]),
    ("+@all allkeys", &[("get db0 r:a", "yes"), ("flushdb db0 all:w", "yes")]),
    ("+@all allkeys resetkeys", &[("get db0 r:a", "key 0"), ("flushdb db0 all:w", "key 0")]),
    ("+@all ~a*", &[("flushdb db0 all:w", "key 0")]),
    ("+@all %W~*", &[("flushdb db0 all:w", "yes"), ("flushdb db0 all:rw", "key 0"), ("get db0 all:r", "key 0")]),
    ("+@all %R~*", &[("flushdb db0 all:w", "key 0"), ("get db0 all:r", "yes")]),
    ("~* +@all -get", &[("get db0 r:a", "action"), ("set db0 w:a", "yes")]),
    ("~* +@all -@write", &[("get db0 r:a", "yes"), ("set db0 w:a", "action"), ("getex db0 rw:a", "action")]),
    ("~* +@read", &[("get db0 r:a", "yes"), ("set db0 w:a", "action"), ("ping", "action")]),
    ("~* +@string -@write", &[("get db0 r:a", "yes"), ("set db0 w:a", "action")]),
    ("~* -@write +@string", &[("get db0 r:a", "yes"), ("set db0 w:a", "yes"), ("del db0 w:a", "action")]),
    ("~* +@all -@dangerous +config|get", &[("config|get", "yes"), ("config|set", "action"), ("flushdb db0 all:w", "action")]),
    ("+config", &[("config|get", "yes"), ("config|set", "yes")]),
    ("+config -config|set", &[("config|get", "yes"), ("config|set", "action")]),
    ("-config|set +config", &[("config|get", "yes"), ("config|set", "yes")]),
    ("+config|get", &[("config|get", "yes"), ("config|set", "action"), ("config", "action")]),
    ("+@all nocommands +get", &[("get", "yes"), ("ping", "action")]),
    ("-@all +ping allcommands", &[("get", "yes"), ("acl|setuser", "yes")]),
    ("+get ~*", &[("get db0 r:a", "yes"), ("getex db0 rw:a", "action")]),
    ("+GET ~a", &[("get db0 r:a", "yes")]),
    ("+@READ ~a", &[("get db0 r:a", "yes")]),
    ("~* +@all keyspace:db0", &[("get db0 r:a", "yes"), ("get db1 r:a", "keyspace"), ("ping", "yes"), ("copy db0 r:a db1 w:a", "keyspace")]),
    ("~* +@all keyspace:db1*", &[("get db1 r:a", "yes"), ("get db15 r:a", "yes"), ("get db2 r:a", "keyspace")]),
    ("~* +@all keyspace:db0 keyspace:db1", &[("copy db0 r:a db1 w:a", "yes")]),
    ("~* +@all resetkeyspaces", &[("get db0 r:a", "keyspace"), ("ping", "yes")]),
    ("~* +@all resetkeyspaces allkeyspaces", &[("get db9 r:a", "yes")]),
    ("+@all &a*", &[("publish @ab", "yes"), ("publish @ba", "channel 0"), ("publish @ab @c", "channel 1")]),
    ("+@all &*", &[("publish @ab", "yes")]),
    ("+@all &* resetchannels", &[("publish @ab", "channel 0")]),
    ("+@all allchannels", &[("publish @ab", "yes")]),
    // Selectors: one has to allow all of it.
    ("~a* +get (~b* +set)", &[("get db0 r:a", "yes"), ("set db0 w:b", "yes"), ("get db0 r:b", "key 0"), ("set db0 w:a", "key 0"), ("ping", "action")]),
    ("(~a* +copy) (~b* +copy)", &[("copy db0 r:a w:a", "yes"), ("copy db0 r:a w:b", "key 1"), ("copy db0 r:b w:b", "yes")]),
    ("(~a* +get) clearselectors", &[("get db0 r:a", "action")]),
    ("(%R~a* +@all keyspace:db1)", &[("get db1 r:a", "yes"), ("get db0 r:a", "keyspace"), ("set db1 w:a", "key 0")]),
    ("+get (~a +get)", &[("get db0 r:a", "yes"), ("get db0 r:b", "key 0")]),
    ("()", &[("get", "action")]),
    ("~* +@all reset", &[("get", "action")]),
    ("~* +@all &*", &[("get db3 r:x", "yes"), ("flushdb db0 all:rw", "yes"), ("acl|setuser", "yes"), ("publish @x", "yes")]),
];

#[test]
fn every_row_of_the_table_comes_out_as_it_says() {
    let rights = Rights::default();
    let mut rows = 0;
    for (line, requests) in TABLE {
        let user = user(line);
        for (request, outcome) in *requests {
            assert_eq!(ask(&rights, &user, request), *outcome, "{line:?} asked for {request:?}");
            rows += 1;
        }
    }
    assert!(rows > 100, "{rows}");
}

#[test]
fn a_key_has_to_lie_in_a_keyspace_that_is_allowed() {
    let user = user("~* +@all keyspace:db0");
    for (keyspace, outcome) in [("db0", Ok(())), ("db1", Err(Denial::Keyspace))] {
        let keys = [KeyUse { keyspace, key: b"a", access: Access::Read }];
        let request =
            Request { action: action("get"), keyspaces: &[], keys: &keys, whole: None, channels: &[] };
        assert_eq!(Rights::default().check(&user, &request), outcome);
    }
}

#[test]
fn a_role_allows_what_its_grants_allow_and_mixes_with_no_other_grant() {
    let mut rights = Rights::default();
    for word in ["~a*", "+get", "(~b* +set)"] {
        rights.role_mut("reader").unwrap().apply(word.as_bytes(), &known).unwrap();
    }
    let user = user("role:reader role:nobody ~c* +get");
    let asked = ["get db0 r:a", "set db0 w:b", "get db0 r:c", "get db0 r:b", "get db0 r:a r:c", "ping"];
    let outcomes = asked.map(|request| ask(&rights, &user, request));
    assert_eq!(outcomes, ["yes", "yes", "yes", "key 0", "key 1", "action"]);
    *rights.user_mut("ada").unwrap() = user;
    // A role that goes is taken from all.
    assert!(rights.remove_role("reader") && !rights.remove_role("reader"));
    let ada = rights.user("ada").unwrap();
    assert_eq!(
        (ask(&rights, ada, "get db0 r:a").as_str(), ada.roles()),
        ("key 0", &["nobody".to_owned()][..])
    );
    let no_user = rights.role_mut("x").unwrap().apply(b"on", &known);
    assert_eq!(no_user, Err(WordError::NotForGrants));
}

#[test]
fn who_looks_around_sees_what_may_be_read() {
    let mut rights = Rights::default();
    for word in ["%R~r*", "+get"] {
        rights.role_mut("reader").unwrap().apply(word.as_bytes(), &known).unwrap();
    }
    let user = user("role:reader ~a* %W~w* +get +set (~* +set) (~s* +get keyspace:db1)");
    let get = action("get");
    let sees = |keyspace: &str, key: &str| rights.may_see(&user, &get, keyspace, key.as_bytes());
    assert!(sees("db0", "a1") && sees("db0", "r1") && sees("db1", "s1"));
    assert!(!sees("db0", "w1") && !sees("db0", "s1") && !sees("db0", "x"));
    assert!(!rights.sees_all(&user, &get, "db0") && rights.sees_all(&user, &action("set"), "db0"));
    assert!(rights.sees_all(rights.user(DEFAULT_USER).unwrap(), &get, "db0"));
}

#[test]
fn words_that_are_none_say_so_and_change_nothing() {
    let cases: &[(&str, WordError)] = &[
        ("", WordError::Syntax),
        ("nonsense", WordError::Syntax),
        ("+nonsense", WordError::Unknown),
        ("-nonsense", WordError::Unknown),
        ("+@nonsense", WordError::Unknown),
        ("+", WordError::Unknown),
        ("+@", WordError::Unknown),
        ("+get|first", WordError::FirstArgument),
        ("+config|set|more", WordError::FirstArgument),
        ("%~a", WordError::Syntax),
        ("%", WordError::Syntax),
        ("%R", WordError::Syntax),
        ("%X~a", WordError::Syntax),
        ("%RR~a", WordError::Syntax),
        ("~a b", WordError::Syntax),
        ("&a\tb", WordError::Syntax),
        ("~a\0", WordError::Syntax),
        ("keyspace:", WordError::Syntax),
        (">", WordError::Syntax),
        ("#abc", WordError::Digest),
        ("!abc", WordError::Digest),
        ("<nobody's", WordError::NoSuchPassword),
        ("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA", WordError::Syntax),
        ("SCRAM-SHA-256$4096:c2FsdHNhbHQ=$x:y", WordError::Syntax),
        ("role:", WordError::Syntax),
        ("cert:", WordError::Syntax),
        ("cert:a b", WordError::Syntax),
        ("(", WordError::Syntax),
        ("(+get", WordError::Syntax),
        ("(on)", WordError::Syntax),
        ("(>password)", WordError::Syntax),
        ("(role:x)", WordError::Syntax),
        ("((+get))", WordError::Syntax),
        ("(~a(b)", WordError::Syntax),
        ("(clearselectors)", WordError::Syntax),
    ];
    let (passwords, mut user) = (passwords(), user("on ~a* +get keyspace:db0"));
    let before = user.clone();
    for (word, error) in cases {
        assert_eq!(user.apply(word.as_bytes(), &passwords, &known), Err(*error), "{word:?}");
        assert!(user == before, "{word:?} has changed something");
    }
    for (first, second, error) in [
        ("~*", "~a", WordError::AfterAllKeys),
        ("allkeys", "%R~a", WordError::AfterAllKeys),
        ("&*", "&a", WordError::AfterAllChannels),
    ] {
        let mut user = User::new("ada");
        user.apply(first.as_bytes(), &passwords, &known).unwrap();
        assert_eq!(user.apply(second.as_bytes(), &passwords, &known), Err(error));
    }
}

#[test]
fn a_user_is_written_as_redis_writes_it() {
    let digest = "8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918";
    for (words, line) in [
        ("", "off sanitize-payload resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass sanitize-payload ~* &* +@all"),
        (
            "on +@all -@write +set -config|set",
            "on sanitize-payload resetchannels +@all -@write +set -config|set",
        ),
        ("%RW~a %R~b %W~c &d", "off sanitize-payload ~a %R~b %W~c resetchannels &d -@all"),
        ("keyspace:db0", "off sanitize-payload resetchannels resetkeyspaces keyspace:db0 -@all"),
        (
            "(~a +get) (%R~b)",
            "off sanitize-payload resetchannels -@all (~a resetchannels -@all +get) (%R~b resetchannels -@all)",
        ),
        ("role:reader cert:CN=ada", "off sanitize-payload cert:CN=ada role:reader resetchannels -@all"),
        ("+get -get +get", "off sanitize-payload resetchannels -@all +get"),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
    ] {
        assert_eq!(String::from_utf8(user(words).to_line()).unwrap(), line, "{words}");
    }
    let line = format!("on sanitize-payload #{digest} resetchannels -@all");
    assert_eq!(String::from_utf8(user(&format!("on nopass #{digest}")).to_line()).unwrap(), line);
    assert_eq!(user(&format!("#{digest} !{digest}")).credential_words(), [""; 0]);
}

#[test]
fn passwords_are_checked_and_a_login_costs_one_hash_whatever_is_wrong() {
    let (passwords, mut user) = (passwords(), User::new("ada"));
    let apply = |user: &mut User, word: &str| user.apply(word.as_bytes(), &passwords, &known).unwrap();
    for word in [">first", ">second", ">first"] {
        apply(&mut user, word);
    }
    assert_eq!(user.credentials.len(), 2, "a password that is there is not added again");
    let cost = |user: Option<&User>, secret: &str| {
        let before = passwords.paid();
        (passwords.accepts(user, secret.as_bytes()), passwords.paid() - before)
    };
    // It is off.
    assert_eq!(cost(Some(&user), "first"), (false, 1));
    user.is_on = true;
    assert_eq!([cost(Some(&user), "first"), cost(Some(&user), "second")], [(true, 1), (true, 1)]);
    assert_eq!(cost(Some(&user), "third"), (false, 1));
    assert_eq!(cost(None, "first"), (false, 1));
    let nobody = User { is_on: true, ..User::new("ada") };
    assert_eq!(cost(Some(&nobody), ""), (false, 1));
    // What was right is remembered, but not for a user that has changed.
    assert_eq!([cost(Some(&user), "first"), cost(Some(&user), "second")], [(true, 0), (true, 0)]);
    let other = User { name: "eve".into(), ..user.clone() };
    assert_eq!(cost(Some(&other), "first"), (true, 1));
    apply(&mut user, "<first");
    assert_eq!(cost(Some(&user), "first"), (false, 1));
    assert_eq!(cost(Some(&user), "second"), (true, 1));
    passwords.forget();
    assert_eq!(cost(Some(&user), "second"), (true, 1));
    user.is_on = false;
    assert_eq!(cost(Some(&user), "second"), (false, 1));
}

#[test]
fn a_token_that_is_right_is_free_and_one_that_is_wrong_costs_what_a_password_costs() {
    let passwords = passwords();
    // The SHA-256 of `admin`.
    let user = user("on #8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918 cert:CN=ada");
    assert!(passwords.accepts(Some(&user), b"admin") && passwords.paid() == 0);
    assert!(!passwords.accepts(Some(&user), b"CN=ada") && passwords.paid() == 1);
    assert!(!passwords.accepts(Some(&user), &vec![b'x'; 100_000]));
}

#[test]
fn what_is_written_is_read_again_and_anything_else_is_damage() {
    let passwords = passwords();
    let user =
        user("on >secret ~a* %R~b* &c +@all -config|set (~d +get) role:reader cert:CN=ada keyspace:db0");
    let line = user.to_line();
    let mut rights = Rights::default();
    rights.add_written_user(b"ada", &line, &passwords).unwrap();
    assert!(**rights.user("ada").unwrap() == user);
    assert!(passwords.accepts(rights.user("ada").map(|user| &**user), b"secret"));
    assert_eq!(rights.user("ada").unwrap().scram_verifiers().count(), 1);
    let role = user.grants().to_line();
    rights.add_written_role(b"reader", &role).unwrap();
    assert_eq!(rights.role("reader").unwrap().to_line(), role);
    // A cut may make another user, for which the store knows how long each is; what it makes is not the same at least.
    for place in 0..line.len() {
        if rights.add_written_user(b"eve", &line[..place], &passwords).is_ok() {
            assert_eq!(rights.user("eve").unwrap().to_line(), &line[..place]);
        }
    }
    for bad in
        [&b""[..], b"on", b"on >secret", b" ", b"(", b"on sanitize-payload  resetchannels -@all", b"\xff"]
    {
        assert!(rights.add_written_user(b"eve", bad, &passwords).is_err());
        assert!(rights.add_written_role(b"eve", bad).is_err());
    }
    for name in [&b""[..], b"a b", b"a\n", b"\xff", &[b'a'; 256]] {
        assert!(rights.add_written_user(name, &line, &passwords).is_err());
    }
    // Names of actions are looked at when rights are given, not when they are read: another version knows others.
    rights.add_written_role(b"later", b"resetchannels -@all +hset").unwrap();
}

#[test]
fn the_last_who_can_change_rights_is_known() {
    let (mut rights, setuser) = (Rights::default(), action("acl|setuser"));
    assert!(rights.is_left_to_somebody(&setuser));
    rights.user_mut(DEFAULT_USER).unwrap().is_on = false;
    assert!(!rights.is_left_to_somebody(&setuser));
    *rights.user_mut("ada").unwrap() = user("on +@all");
    assert!(!rights.is_left_to_somebody(&setuser), "nobody can be her");
    apply(rights.user_mut("ada").unwrap(), "cert:CN=ada").unwrap();
    assert!(!rights.is_left_to_somebody(&setuser), "whether anybody shows a certificate is not known here");
    apply(rights.user_mut("ada").unwrap(), ">secret").unwrap();
    assert!(rights.is_left_to_somebody(&setuser));
    assert_eq!(rights.user_of_certificate("CN=ada").unwrap().name(), "ada");
    assert!(rights.user_of_certificate("CN=eve").is_none());
    apply(rights.user_mut("eve").unwrap(), "on cert:CN=ada").unwrap();
    assert!(rights.user_of_certificate("CN=ada").is_none(), "two with the same are nobody");
    assert!(!rights.remove_user(DEFAULT_USER) && rights.remove_user("eve") && !rights.remove_user("eve"));
}

#[test]
fn hostile_words_are_refused_in_bounded_time_and_space() {
    let (passwords, mut user) = (passwords(), User::new("ada"));
    let huge = vec![b'a'; 1 << 20];
    for begin in
        ["~", "%R~", "&", "+", "-", "+@", "#", "!", "$", "keyspace:", "role:", "cert:", "(", "(~", ">", ""]
    {
        let word = [begin.as_bytes(), &huge].concat();
        assert!(user.apply(&word, &passwords, &known).is_err(), "{begin}");
        let closed = [&word[..], b")"].concat();
        assert!(user.apply(&closed, &passwords, &known).is_err(), "{begin}");
    }
    let nested = "(".repeat(100_000);
    assert!(user.apply(nested.as_bytes(), &passwords, &known).is_err());
    assert_eq!(joined_words(&vec!["("; 1000]), Err(0));
    // As many as there may be, and not one more.
    let mut refused = 0;
    for number in 0..100_000 {
        refused += usize::from(user.apply(format!("~k{number}*").as_bytes(), &passwords, &known).is_err());
    }
    assert_eq!(refused, 100_000 - limits::PATTERNS_MAX);
    let any = |_: &str| true;
    let refused =
        (0..10_000).filter(|number| user.apply(format!("+a{number}").as_bytes(), &passwords, &any).is_err());
    assert_eq!(refused.count(), 10_000 - limits::RULES_MAX);
    for word in ["(~a)", "role:", "cert:"] {
        let errors = (0..200).filter(|number| {
            let word = if word.starts_with('(') { format!("(~{number})") } else { format!("{word}{number}") };
            user.apply(word.as_bytes(), &passwords, &known).is_err()
        });
        assert!(errors.count() >= 200 - limits::CREDENTIALS_MAX);
    }
    let mut rights = Rights::default();
    let errors = (0..limits::ROLES_MAX + 5).filter(|number| rights.role_mut(&number.to_string()).is_err());
    assert_eq!(errors.count(), 5);
}

#[test]
fn nothing_prints_a_secret() {
    let user = user("on >hunter2 ~secret:*");
    let rights =
        Rights { users: [("ada".to_owned(), Arc::new(user.clone()))].into(), roles: BTreeMap::new() };
    let printed = format!("{user:?} {rights:?} {:?} {:?}", passwords(), user.grants());
    assert!(!printed.contains("hunter2") && !printed.contains("secret:") && !printed.contains("argon2"));
    assert!(!String::from_utf8(user.to_line()).unwrap().contains("hunter2"));
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let text = "[a-z*?\\[\\]:^\\\\-]{0,6}";
    let rule = prop::sample::select(vec![
        "+get",
        "-get",
        "+config",
        "-config|set",
        "+config|get",
        "+@read",
        "-@write",
        "+@all",
        "-@all",
        "+set",
    ])
    .prop_map(str::to_owned);
    let grant = prop_oneof![
        3 => rule,
        2 => text.prop_map(|text| format!("~{text}")),
        1 => text.prop_map(|text| format!("%R~{text}")),
        1 => text.prop_map(|text| format!("%W~{text}")),
        1 => text.prop_map(|text| format!("&{text}")),
        1 => "[a-z*]{1,4}".prop_map(|text| format!("keyspace:{text}")),
        1 => prop::sample::select(vec!["allkeys", "resetkeys", "resetchannels", "allkeyspaces", "resetkeyspaces"])
            .prop_map(str::to_owned),
    ];
    let selector =
        prop::collection::vec(grant.clone(), 0..4).prop_map(|words| format!("({})", words.join(" ")));
    let word = prop_oneof![
        8 => grant,
        2 => selector,
        1 => prop::sample::select(vec!["on", "off", "nopass", "resetpass", "skip-sanitize-payload", "clearselectors"])
            .prop_map(str::to_owned),
        1 => "[a-z]{1,3}".prop_map(|name| format!("role:{name}")),
        1 => "[a-z=,]{1,3}".prop_map(|name| format!("cert:{name}")),
        1 => "[0-9a-f]{64}".prop_map(|digits| format!("#{digits}")),
    ];
    prop::collection::vec(word, 0..20)
}

proptest! {
    #[test]
    fn what_is_written_parses_to_the_same(words in words()) {
        let passwords = passwords();
        let mut user = User::new("ada");
        for word in &words {
            // Some are refused behind others: then nothing has changed.
            let before = user.clone();
            if user.apply(word.as_bytes(), &passwords, &known).is_err() {
                prop_assert!(user == before);
            }
        }
        let mut rights = Rights::default();
        rights.add_written_user(b"ada", &user.to_line(), &passwords).unwrap();
        prop_assert!(**rights.user("ada").unwrap() == user);
        let again = joined_words(&[user.to_line()]).unwrap();
        prop_assert_eq!(again.len(), 1);
    }

    #[test]
    fn no_bytes_make_a_panic(word in prop::collection::vec(any::<u8>(), 0..40), first in "[-~%&+(<!#$@a-z:]{0,8}") {
        let mut user = User::new("ada");
        let word = [first.as_bytes(), &word].concat();
        if !word.starts_with(b">") && !word.starts_with(b"<") {
            let _ = user.apply(&word, &passwords(), &known);
        }
        let _ = Rights::default().add_written_user(b"ada", &word, &passwords());
    }
}
