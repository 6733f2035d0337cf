//! Tables and a definition with every kind of event, for the tests of the ledger.

use testkit::postgres::Postgres;

use crate::support::{Definition, server};

/// Two tables and every kind of emission.
pub(crate) const SHOP: &str = "
version: 1
counters: {fold_interval: 0s, regress_grace: 2s}
families:
- {name: made_total, type: counter, help: A., labels: {kind: {enum: public.kind}}}
- {name: moved_total, type: counter, help: A., labels: {from: {enum: public.kind}, to: {enum: public.kind}}}
- {name: gone_total, type: counter, help: A., labels: {kind: {values: [a], other: rest}}}
- {name: paid_total, type: counter, help: A.}
- {name: by_name_total, type: counter, help: A., labels: {name: {max: 2}}}
- {name: strict_total, type: counter, help: A., labels: {name: {values: [ada]}}}
- {name: price, type: histogram, help: A., buckets: [1, 2.5, 10]}
- {name: inverse, type: histogram, help: A., buckets: [1]}
events:
- name: made
  table: public.items
  on: insert
  emit:
  - {family: made_total, labels: {kind: n.kind}}
  - {family: price, value: n.price}
  - {family: paid_total, add: n.price, when: n.price IS NOT NULL}
  - {family: by_name_total, labels: {name: n.name}}
  - {family: strict_total, labels: {name: n.name}}
- {name: moved, table: public.items, on: update, when: o.kind <> n.kind, emit: [{family: moved_total, labels: {from: o.kind, to: n.kind}}]}
- {name: gone, table: public.items, on: delete, emit: [{family: gone_total, labels: {kind: o.kind}}]}
- {name: inverted, table: public.items, on: insert, emit: [{family: inverse, value: 1 / (n.price - 7)}]}
";

pub(crate) const TABLES: &str = "
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE items (id int PRIMARY KEY, kind kind NOT NULL, price numeric, name text);
CREATE ROLE app LOGIN PASSWORD 'app';
GRANT ALL ON items TO app";

/// A server with the tables and the ledger of [`SHOP`].
pub(crate) async fn shop(major: u32) -> anyhow::Result<Option<(Postgres, Definition)>> {
    let Some(server) = server(major).await? else { return Ok(None) };
    server.sql(TABLES).await?;
    let definition = Definition::new(SHOP)?;
    definition.install(&server).await?;
    Ok(Some((server, definition)))
}
