//! soloist with other crates and programs: one test binary, with a module for each area.

#![cfg_attr(not(unix), allow(dead_code))]

#[path = "../../../tests/it/programs.rs"]
mod programs;
#[path = "../../../tests/it/support.rs"]
mod support;

#[cfg(unix)]
mod crawl;
mod ecosystem;
#[cfg(unix)]
mod embed;
mod fetch_https;
mod frameworks;
#[cfg(unix)]
mod http_server;
#[cfg(unix)]
mod redis_server;
mod select;
#[cfg(unix)]
mod servers;
mod virtual_time;
#[cfg(unix)]
mod websocket;
mod worlds;
