//! Searches: an index of the first API, the catalog of a registry without one, filters, bounds and columns.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use hoist_tests::{Bed, Image, Registry, both, hoist, skip};
use serde_json::{Value, json};

/// Answers searches as Docker Hub's index does, and other requests with 404; the first line of each goes to the log.
fn index() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            // a client that tries TLS first is not to wait for an answer
            if reader.fill_buf().map_or(true, |bytes| bytes.first() == Some(&0x16)) {
                continue;
            }
            let mut lines = reader.lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            for line in lines.map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
            }
            let (status, body) = match first.split(' ').nth(1) {
                Some(path) if path.starts_with("/v1/search?") => ("200 OK", results(path)),
                Some("/v1/_ping") => ("200 OK", "{}".to_owned()),
                _ => ("404 Not Found", "not here".to_owned()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Docker-Registry-Standalone: true\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    format!("127.0.0.1:{}", address.port())
}

fn results(path: &str) -> String {
    let entry = |name: &str, stars: u32, official: bool| {
        let description = format!("The {name}\nin a description that is longer than a column of a table");
        json!({
            "name": name, "description": description, "star_count": stars, "is_official": official,
            "is_automated": false, "is_trusted": false,
        })
    };
    let found = [entry("library", 40, true), entry("me/library", 3, false), entry(path, 0, false)];
    json!({ "query": "x", "num_results": 3, "num_pages": 1, "page": 1, "page_size": 25, "results": found }).to_string()
}

#[test]
fn a_registry_s_index_is_searched() {
    both(|t| {
        let index = index();
        let table = t.cli(&format!("search {index}/library")).ok();
        table.clone().matches(r"^NAME +DESCRIPTION +STARS +OFFICIAL$");
        table.clone().matches(r"^library +The library in a description that is longer …? *40 +\[OK\]$");
        table.clone().matches(r"^me/library .* 3 *$");
        table.says("/v1/search?q=library&n=25");
        t.cli(&format!("search --no-trunc --limit 7 {index}/library"))
            .ok()
            .says("than a column of a table")
            .says("n=7");
        let official = t.cli(&format!("search -f is-official=true --format '{{{{.Name}}}}' {index}/x")).ok();
        official.prints("library");
        t.cli(&format!("search -f stars=3 --format '{{{{.Name}}}}:{{{{.StarCount}}}}' {index}/x"))
            .ok()
            .prints("library:40\nme/library:3");
        let line = t.cli(&format!("search -f is-official=true --format json {index}/x")).ok().json();
        assert_eq!((&line["IsOfficial"], &line["StarCount"]), (&json!("true"), &json!("40")));
    });
}

#[test]
fn searches_that_cannot_be_are_refused() {
    both(|t| {
        t.cli("search --limit 200 x").fails_with(1).complains("limit 200 is outside the range of [1, 100]");
        t.cli("search -f foo=bar x").fails_with(1).complains("invalid filter 'foo'");
        t.cli("search -f is-official=x x").fails_with(1).complains("invalid filter 'is-official=[x]'");
        t.cli("search -f stars=a x").fails_with(1).complains("invalid filter 'stars=a'");
        t.cli("search https://r/x").fails_with(1).complains("should not have a scheme");
        t.cli("search 127.0.0.1:1/x").fails_with(1).complains("connection refused");
        let automated = t.cli("search -f is-automated=true 127.0.0.1:1/x").ok();
        automated.complains("WARNING: the \"is-automated\" filter is deprecated");
    });
}

#[test]
fn a_registry_without_an_index_is_searched_by_its_catalog() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd does not search registries of today");
        }
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        for repository in ["team/library", "library/one", "other"] {
            registry.push(repository, &["v1"], &Image::busybox());
        }
        let names = |term: &str| t.cli(&format!("search --format '{{{{.Name}}}}' {}", registry.name(term))).ok().stdout;
        let named = |names: &[&str]| names.iter().map(|name| registry.name(name) + "\n").collect::<String>();
        assert_eq!(names("library"), named(&["library/one", "team/library"]));
        assert_eq!(names("nothing"), "");
        let one = names("OTHER");
        t.cli(&format!("pull -q {}:v1", one.trim())).ok();
    });
}

#[test]
fn the_default_index_can_be_one_s_own() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "the index is a setting of the engine");
        }
        let own = Bed::new(t.cli, &["--search-index".to_owned(), format!("http://{}", index())]);
        own.cli("search library").ok().says("me/library").says("q=library&n=25");
        let found: Value = own.api().get("/images/search?term=library&limit=1").status(200).json();
        assert_eq!(found.as_array().unwrap().len(), 1);
        assert_eq!(found[0]["star_count"], 40);
    });
}
