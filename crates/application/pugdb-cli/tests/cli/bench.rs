//! `bench ycsb`: its figures, its JSON, and what it refuses.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::pugdb;

const TINY: [&str; 6] = ["bench", "ycsb", "--records", "300", "--operations", "200"];

fn bench(dir: &Path, more: &[&str]) -> crate::command::Run {
    pugdb(dir, &[&TINY, more].concat())
}

#[test]
fn every_engine_gives_one_json_object_a_workload_with_the_promised_fields() {
    let dir = tempfile::tempdir().unwrap();
    for (engine, durability) in [("lsm", "os"), ("btree", "none")] {
        let run = bench(dir.path(), &["--engine", engine, "--json"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
        let rows: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = rows.iter().map(|row| row["workload"].as_str().unwrap()).collect();
        assert_eq!(names, ["load", "A", "B", "C", "F", "D", "E"]);
        for row in &rows {
            for field in ["ops_per_second", "cpu_us_per_op", "p50_us", "p99_us", "p999_us", "max_us"] {
                assert!(row[field].as_f64().unwrap() > 0.0, "{field} in {row}");
            }
            assert_eq!(
                (row["engine"].as_str(), row["durability"].as_str()),
                (Some(engine), Some(durability))
            );
            assert_eq!(row["misses"], 0, "{row}");
        }
        assert_eq!(rows[3]["checked"], 200, "{}", rows[3]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_table_has_a_title_and_a_line_for_each_workload() {
    let dir = tempfile::tempdir().unwrap();
    let run = bench(dir.path(), &["--workload", "C,M", "--durability", "sync", "--threads", "2"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    let lines: Vec<&str> = run.text().lines().collect();
    assert_eq!(lines.len(), 4, "{run}");
    assert!(lines[0].starts_with(
        "engine lsm, not encrypted, durability sync (a write survives a power cut), 300 records"
    ));
    assert!(lines[1].starts_with("workload") && lines[2].starts_with("C ") && lines[3].starts_with("M "));
}

#[test]
fn a_given_directory_is_kept_and_a_full_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let line = ["--data", "kept", "--workload", "load"];
    assert_eq!(bench(dir.path(), &line).code, 0);
    let first = pugdb(dir.path(), &["scan", "--data", "kept", "--keyspace", "ycsb", "--limit", "1"]);
    assert!(first.code == 0 && first.text().starts_with("user"), "{first}");
    bench(dir.path(), &line).fails(2, &["kept is not empty"]);
    fs::File::create(dir.path().join("file")).unwrap();
    bench(dir.path(), &["--data", "file"]).fails(2, &["could not read file"]);
}

#[test]
fn an_ordered_scan_of_the_hash_engine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let told = ["workload E scans in the order of the keys", "leave E out"];
    bench(dir.path(), &["--engine", "hash", "--workload", "load,E"]).fails(2, &told);
    bench(dir.path(), &["--records", "1"]).fails(2, &["cannot be used multiple times"]);
    pugdb(dir.path(), &["bench", "ycsb", "--records", "1"]).fails(2, &["1 records are asked for"]);
}
