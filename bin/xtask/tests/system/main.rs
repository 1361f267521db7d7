//! The whole system on real stores: real processes, real faults, and the ledger of `footfall load` as the judge.
//!
//! Tests run side by side, on a stack each. Those that measure, and start theirs by `start_to_measure`, wait until they are
//! alone.

mod access;
mod backlog;
mod balancer;
mod bodies;
mod browser;
mod cluster;
mod common;
mod configuration;
mod counting;
mod crowds;
mod doctor;
mod fallbacks;
mod faults;
mod flooded;
mod floods;
mod full;
mod galera;
mod growth;
mod hit_rates;
mod honest;
mod imports;
mod limits;
mod lists;
mod live;
mod openapi;
mod outside;
mod power;
mod prometheus;
mod reads;
mod replica;
mod restore;
mod schema;
mod sentinels;
mod shards;
mod site;
mod stores;
mod tool;
mod under_load;
mod upgrade;
mod viewer;
mod viewers;
mod watchdog;
