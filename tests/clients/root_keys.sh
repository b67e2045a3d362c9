#!/usr/bin/env bash
# Root keys where they are kept for good: in a token (SoftHSM, through PKCS#11) and in a login keyring (GNOME Keyring, in a D-Bus session of
# its own). Each wrong thing has to be told by its name, and a kill in the middle of a rotation has to leave a key that opens the database.
#
# Needs PUGDB (the binary), softhsm2-util, pkcs11-tool and pkcs11-spy.so, gnome-keyring-daemon, dbus-run-session, dbus-send, script, strace.
set -euo pipefail

pugdb=$(realpath "${PUGDB:?set PUGDB to the pugdb binary}")
# What was set for others is not for us.
unset "${!PUGDB_@}"
pin=73914682

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# The command ends with this code, and says this (a fixed string). All that was said is kept: the PIN must not be in it.
says() { # says CODE TEXT COMMAND...
    local wanted=$1 text=$2 code=0 out
    shift 2
    out=$("$@" 2>&1 </dev/null) || code=$?
    printf '%s\n' "$out" >>"$dir/said"
    [[ $code == "$wanted" && $out == *"$text"* ]] ||
        fail "$* ended with $code and not $wanted, or does not say '$text': $out"
}

value_is() { # value_is VALUE DATA
    says 0 "$1" "$pugdb" get ada --data "$2"
}

generation() { # generation DATA
    "$pugdb" --json key status --data "$1" | sed -n 's/.*"keyring_generation":\([0-9]*\).*/\1/p'
}

# Kills rotations before and after the new keyring is in its place, after the same calls of the system as one that is left alone. There are two
# keys then, and after the next open the one that is needed.
survives_kills() { # survives_kills DATA COUNT
    local renames syncs at before now code
    strace -f -o "$dir/trace" -e trace=fsync,rename,sync "$pugdb" key rotate --data "$1" >>"$dir/said" 2>&1
    # Neither of the two places syncs all it writes: the new key has to be on the disk before the keyring, and the old one off it at the end.
    [[ $(grep -oE ' sync\(|KEYRING.new' "$dir/trace" | uniq | tr -d '\n') == " sync(KEYRING.new sync(" ]] ||
        fail "the keys are not synced before and after the keyring: $(cat "$dir/trace")"
    # The one that puts the keyring in its place, and the sync of the directory behind it.
    read -r renames syncs < <(awk '/ fsync\(/ { syncs++ } / rename\(/ { renames++ } /KEYRING.new/ { print renames, syncs + 1; exit }' "$dir/trace")
    for at in "rename:when=$renames" "fsync:when=$syncs"; do
        before=$(generation "$1") code=0
        strace -f -o /dev/null -e trace="${at%%:*}" -e inject="$at:signal=KILL" "$pugdb" key rotate --data "$1" \
            >>"$dir/said" 2>&1 || code=$?
        ((code)) || fail "the rotation was not killed at $at"
        [[ $("$2") == 2 ]] || fail "there are $("$2") keys after a kill at $at, and not two"
        value_is 1815 "$1"
        [[ $("$2") == 1 ]] || fail "there are $("$2") keys after the next open, and not one"
        now=$(generation "$1")
        if [[ $at == rename* ]]; then ((now == before)); else ((now == before + 1)); fi ||
            fail "the keyring has generation $now after a kill at $at, and had $before"
    done
}

# Of two rotations and an erasure: only the keyring of today opens. $2 counts the keys, $3 is what the provider is called.
takes_new_keys() { # takes_new_keys DATA COUNT NAME
    cp "$1/KEYRING" "$dir/old"
    says 0 "the old root key is gone from $3" "$pugdb" key rotate --data "$1"
    [[ $("$2") == 1 ]] || fail "there are $("$2") keys after a rotation, and not one"
    cp "$1/KEYRING" "$dir/new"
    cp "$dir/old" "$1/KEYRING"
    says 4 "one of the two is an older copy" "$pugdb" get ada --data "$1"
    cp "$dir/new" "$1/KEYRING"
    value_is 1815 "$1"

    says 0 "" "$pugdb" put about-bob secret --subject bob --data "$1"
    cp -r "$1" "$dir/before"
    rm -f "$dir/certificate"
    says 0 "" "$pugdb" erase --subject bob --certificate "$dir/certificate" --data "$1"
    grep -qF "root key $3" "$dir/certificate" || fail "the certificate does not name $3"
    grep -qxF "old root key destroyed" "$dir/certificate" || fail "the certificate does not say that the key is destroyed"
    says 0 "" "$pugdb" erase --check "$dir/certificate" --subject bob --data "$1"
    ! "$pugdb" get about-bob --data "$1" >>"$dir/said" 2>&1 || fail "what was erased is still there"
    says 4 "one of the two is an older copy" "$pugdb" get about-bob --data "$dir/before"
    value_is 1815 "$1"
    rm -r "$dir/before"
    says 0 "$3" "$pugdb" privacy report --data "$1"
    says 0 '"provider_destroys":true' "$pugdb" --json key status --data "$1"
}

in_a_token() {
    export SOFTHSM2_CONF=$dir/softhsm2.conf
    mkdir "$dir/tokens"
    printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir/tokens" >"$SOFTHSM2_CONF"
    softhsm2-util --init-token --free --label "my safe" --pin "$pin" --so-pin 12345678 >/dev/null
    (umask 077 && echo "$pin" >"$dir/pin")
    local token="pkcs11:token=my%20safe" module="module-path=$library"
    local source="$token;object=orders?$module&pin-source=file:$dir/pin" name="the PKCS#11 token my safe of $library"
    tool() { pkcs11-tool --module "$library" --token-label "my safe" --login --pin "$pin" "$@" 2>/dev/null; }
    count() { tool --list-objects | grep -c 'label: *orders ' || true; }

    export PUGDB_ROOT_KEY=$source
    says 0 "The key does not leave the token" "$pugdb" init --data "$dir/a"
    says 0 "" "$pugdb" put ada 1815 --data "$dir/a"
    value_is 1815 "$dir/a"
    tool --list-objects | grep -q 'sensitive, always sensitive, never extractable' || fail "the key can be read out"
    takes_new_keys "$dir/a" count "$name"
    survives_kills "$dir/a" count

    # Another database in the same token, of another name: each has its own key, and leaves the other's alone.
    PUGDB_ROOT_KEY=${source/orders/others} says 0 "" "$pugdb" init --data "$dir/b"
    PUGDB_ROOT_KEY=${source/orders/others} says 0 "" "$pugdb" key rotate --data "$dir/b"
    [[ $(count) == 1 ]] || fail "another database has changed the keys of this one"
    value_is 1815 "$dir/a"

    # The PIN: wrong, nowhere, readable for others, shown, in a variable, asked for.
    echo 00000000 >"$dir/pin"
    says 4 "wrong PIN of $name" "$pugdb" get ada --data "$dir/a"
    echo "$pin" >"$dir/pin"
    value_is 1815 "$dir/a"
    chmod 644 "$dir/pin"
    says 4 "run \`chmod 600" "$pugdb" get ada --data "$dir/a"
    chmod 600 "$dir/pin"
    says 2 "pin-value is not taken" "$pugdb" get ada --data "$dir/a" --root-key "$token?$module&pin-value=$pin"
    says 2 "no terminal to ask on" "$pugdb" get ada --data "$dir/a" --root-key "$token?$module"
    MY_PIN=$pin says 0 1815 "$pugdb" get ada --data "$dir/a" --root-key "$token?$module&pin-source=env:MY_PIN"
    says 1 "MY_PIN is not set" "$pugdb" get ada --data "$dir/a" --root-key "$token?$module&pin-source=env:MY_PIN"
    : >"$dir/typed"
    # What is typed before the question, or while the terminal still shows it, is thrown away.
    { until grep -qF 'PIN of' "$dir/typed"; do sleep 0.05; done; sleep 0.3; echo "$pin"; } |
        timeout 20 script -qefc "'$pugdb' get ada --data '$dir/a' --root-key '$token?$module'" "$dir/typed" >/dev/null
    tr -d '\r\n' <"$dir/typed" | grep -qF "PIN of $name: 1815" || fail "the PIN is not asked for: $(cat "$dir/typed")"
    cat "$dir/typed" >>"$dir/said"

    # What the library is asked for, through one that writes it down: a wrong PIN once, and an end to all that was begun.
    local spy
    spy="$token?module-path=$(find /usr/lib -name pkcs11-spy.so -print -quit)"
    export PKCS11SPY=$library PKCS11SPY_OUTPUT=$dir/calls
    calls() { grep -cw "$1" "$dir/calls" || true; }
    MY_PIN=00000000 says 4 "wrong PIN" "$pugdb" get ada --data "$dir/a" --root-key "$spy&pin-source=env:MY_PIN"
    [[ $(calls C_Login) == 1 ]] || fail "a wrong PIN was tried $(calls C_Login) times"
    says 0 1815 "$pugdb" get ada --data "$dir/a" --root-key "$spy&pin-source=file:$dir/pin"
    [[ $(calls C_OpenSession) == "$(calls C_CloseSession)" && $(calls C_Initialize) == "$(calls C_Finalize)" ]] ||
        fail "not all that was begun with the library was ended"
    [[ $(calls C_Login) == $((1 + $(calls C_Logout))) ]] || fail "somebody stays logged in"
    unset PKCS11SPY PKCS11SPY_OUTPUT

    # The token and its library.
    says 1 "there is no PKCS#11 token other" "$pugdb" get ada --data "$dir/a" --root-key "pkcs11:token=other?$module"
    says 1 "there is no library" "$pugdb" get ada --data "$dir/a" --root-key "$token?module-path=/nowhere.so"
    says 2 "is no PKCS#11 library" "$pugdb" get ada --data "$dir/a" --root-key "$token?module-path=$(readlink -f /bin/sh)"
    mv "$dir/tokens" "$dir/pulled"
    mkdir "$dir/tokens"
    says 1 "is it plugged in" "$pugdb" get ada --data "$dir/a"
    rmdir "$dir/tokens"
    mv "$dir/pulled" "$dir/tokens"
    value_is 1815 "$dir/a"

    # Another kind of root key, and nothing that was ever made by this one.
    says 4 "sealed with a key in a PKCS#11 token" "$pugdb" get ada --data "$dir/a" --root-key "command:printf %064d 7"

    # The key: gone, and another one under its name.
    local label id
    label=$(tool --list-objects | sed -n 's/.*label: *\(orders .*\)/\1/p')
    id=$(tool --list-objects | grep -A1 "label: *orders " | sed -n 's/.*ID: *//p')
    cp -r "$dir/tokens" "$dir/kept"
    tool --delete-object --type secrkey --id "$id" >/dev/null
    says 1 "there is no root key of database" "$pugdb" get ada --data "$dir/a"
    tool --keygen --key-type AES:32 --label "$label" --id "$id" >/dev/null
    says 4 "wrong key" "$pugdb" get ada --data "$dir/a"
    rm -r "$dir/tokens"
    mv "$dir/kept" "$dir/tokens"
    value_is 1815 "$dir/a"
    unset PUGDB_ROOT_KEY
}

in_a_keyring() {
    export PUGDB_ROOT_KEY=keyring:orders
    says 1 "there is no login keyring yet" "$pugdb" init --data "$dir/c"
    printf login | gnome-keyring-daemon --replace --unlock --components=secrets >/dev/null 2>&1
    ask() { # ask METHOD ARGUMENT...
        dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets \
            "org.freedesktop.Secret.Service.$1" "${@:2}"
    }
    count() { ask SearchItems dict:string:string:service,orders | grep -c 'object path' || true; }

    says 0 "its root key is in the login keyring, for orders" "$pugdb" init --data "$dir/c"
    says 0 "" "$pugdb" put ada 1815 --data "$dir/c"
    value_is 1815 "$dir/c"
    takes_new_keys "$dir/c" count "the login keyring, for orders"
    survives_kills "$dir/c" count
    says 4 "sealed with a key in the login keyring" "$pugdb" get ada --data "$dir/c" --root-key "command:printf %064d 7"

    ask Lock array:objpath:/org/freedesktop/secrets/collection/login >/dev/null
    says 4 "the login keyring is locked" "$pugdb" get ada --data "$dir/c"
    says 4 "the login keyring is locked" "$pugdb" init --data "$dir/d"
    DBUS_SESSION_BUS_ADDRESS='' XDG_RUNTIME_DIR='' says 4 "no D-Bus of a session" "$pugdb" get ada --data "$dir/c"
    DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere says 4 "no D-Bus of a session" "$pugdb" get ada --data "$dir/c"
    # An unlocked one opens it again, and a daemon that has read its file anew.
    printf login | gnome-keyring-daemon --replace --unlock --components=secrets >/dev/null 2>&1
    value_is 1815 "$dir/c"
}

if [[ ${1:-} == --in-session ]]; then
    dir=$2
    in_a_keyring
    exit
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export HOME=$dir XDG_CONFIG_HOME=$dir/config XDG_DATA_HOME=$dir/share XDG_CACHE_HOME=$dir/cache XDG_RUNTIME_DIR=$dir/run PUGDB_CONFIG=/dev/null
mkdir -p -m 700 "$XDG_RUNTIME_DIR" "$XDG_DATA_HOME" "$XDG_CONFIG_HOME"
library=$(find /usr/lib /usr/local/lib -name libsofthsm2.so -print -quit 2>/dev/null)
[[ -n $library ]] || fail "there is no libsofthsm2.so"
in_a_token
PUGDB=$pugdb dbus-run-session -- bash "$0" --in-session "$dir"
! grep -qF "$pin" "$dir/said" || fail "the PIN was printed"
echo "root keys in a token and in a login keyring: made, rotated, erased with, killed, and each wrong thing told"
