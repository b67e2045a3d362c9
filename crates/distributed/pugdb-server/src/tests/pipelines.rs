//! Many commands at once, and commands in pieces.

use super::harness::{Running, request};

#[test]
fn a_pipeline_is_answered_in_order_and_reads_its_own_writes() {
    for server in [Running::in_memory(), Running::on_disk()] {
        let mut client = server.connect();
        let mut pipeline = Vec::new();
        for number in 0..5_000 {
            pipeline.extend_from_slice(&request(&["SET", "key", &number.to_string()]));
            pipeline.extend_from_slice(&request(&["GET", "key"]));
        }
        client.send(&pipeline);
        for number in 0..5_000 {
            assert_eq!(client.text(), "+OK");
            assert_eq!(client.text(), format!("\"{number}\""));
        }
        assert_eq!(server.shared.stats.commands.get(), 10_000);
    }
}

#[test]
fn a_pipeline_shares_syncs() {
    let server = Running::on_disk();
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "first", "makes the keyspace"]), "+OK");
    let before = server.world.syncs.count();
    client.send(request(&["SET", "key", "value"]).repeat(10_000));
    for _ in 0..10_000 {
        assert_eq!(client.text(), "+OK");
    }
    let syncs = server.world.syncs.count() - before;
    assert!(syncs < 1_000, "{syncs} syncs for 10,000 writes in one pipeline");
}

#[test]
fn a_failed_command_does_not_end_its_pipeline() {
    let server = Running::in_memory();
    let mut client = server.connect();
    client.send("SET a x\r\nINCR a\r\nNOTHING\r\nGET\r\nGET a\r\n");
    let replies: Vec<String> = (0..5).map(|_| client.text()).collect();
    assert_eq!(
        replies,
        [
            "+OK",
            "-ERR value is not an integer or out of range",
            "-ERR unknown command 'NOTHING'",
            "-ERR wrong number of arguments for 'get' command",
            "\"x\"",
        ]
    );
}

#[test]
fn commands_may_arrive_byte_by_byte() {
    let server = Running::in_memory();
    let mut client = server.connect();
    let mut stream = request(&[&b"SET"[..], b"k\r\n", b"\0\xff"]).to_vec();
    stream.extend_from_slice(b"get \"k\\r\\n\"\r\n");
    for byte in stream.chunks(1) {
        client.send(byte);
    }
    assert_eq!((client.text(), client.text()), ("+OK".into(), "\"\\x00\\xff\"".into()));
}

#[test]
fn a_large_value_comes_and_goes_whole() {
    let server = Running::on_disk();
    let mut client = server.connect();
    let value: Vec<u8> = (0..20_u32 << 20).map(|index| (index % 251) as u8).collect();
    client.send(request(&[&b"SET"[..], b"large", &value[..]]));
    assert_eq!(client.text(), "+OK");
    client.send("GET large\r\nPING\r\n");
    let Some(pugdb_wire::resp::Reply::Bulk(read)) = client.reply() else { panic!("not a string") };
    assert!(read == value, "the value is another one");
    assert_eq!(client.text(), "+PONG");
    server.eventually(|shared| shared.budget.used() == 0);
}

#[test]
fn what_was_received_is_answered_when_the_client_sends_no_more() {
    let server = Running::in_memory();
    let mut client = server.connect();
    client.send("SET a 1\r\nGET a\r\nGET ");
    assert_eq!(client.finish(), ["+OK", "\"1\""]);
}
