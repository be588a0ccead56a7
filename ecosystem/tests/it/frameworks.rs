//! axum and tonic, as they are, on soloist-hyper.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::programs::{KillOnDrop, example, run};
use crate::support::watchdog;

#[test]
fn an_app_of_axum_answers() {
    watchdog(|| {
        let mut command = example("axum_app");
        let mut server = KillOnDrop(command.arg("127.0.0.1:0").spawn().unwrap());
        let mut line = String::new();
        let mut lines = BufReader::new(server.0.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        let get = |path: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            (head[9..12].to_string(), body.to_string())
        };
        for (path, status, body) in [
            ("/count/pears", "200", "1\n"),
            ("/count/apples", "200", "1\n"),
            ("/count/pears", "200", "2\n"),
            ("/", "200", r#"{"apples":1,"pears":2}"#),
            ("/other", "404", ""),
        ] {
            assert_eq!(get(path), (status.into(), body.into()), "{path}");
        }
    });
}

#[test]
fn a_server_and_a_client_of_grpc_understand_each_other() {
    watchdog(|| {
        let output = run(&mut example("grpc"));
        assert_eq!(output.status, Some(0), "{}", output.err);
        let lines: Vec<_> = output.out.lines().collect();
        let expected = [
            "check: NotFound",
            "watch: Serving",
            "watch: NotServing",
            "check: NotServing",
        ];
        assert_eq!(lines, expected);
    });
}

#[test]
fn the_readme_contains_the_examples_of_soloist_hyper() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for example in ["serve.rs", "fetch.rs"] {
        let example = root.join("crates/soloist-hyper/examples").join(example);
        let example = fs::read_to_string(example).unwrap();
        let (_title, example) = example.split_once("\n\n").unwrap();
        assert!(readme.contains(&format!("\n{example}```\n")));
    }
}
