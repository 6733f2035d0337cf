//! The catalogue: searching, paging, favourites, saved searches, and that it works without Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stack::{Stack, assert_invalid, assert_problem};

fn vin(number: u32) -> String {
    format!("1ADGX{number:012}")
}

async fn search(stack: &Stack, query: &str, token: Option<&str>) -> Value {
    let answer = stack.call("GET", &format!("/api/v1/vehicles?{query}"), token, None).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json().unwrap()
}

#[tokio::test]
async fn every_criterion_selects_what_the_database_selects() {
    let stack = Stack::start().await;
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM vehicles").await.unwrap().unwrap(), "6000");
    for (query, condition) in [
        ("make=toyota&model=CAMRY", "make = 'Toyota' AND model = 'Camry'"),
        ("body_type=Coupe&price_max=12000.50", "body_type = 'coupe' AND price <= 12000.50"),
        (
            "search_type=advanced&condition=certified&year_max=2020",
            "condition = 'certified' AND year <= 2020",
        ),
        ("search_type=advanced&fuel_type=electric&year_min=2024", "fuel_type = 'electric' AND year >= 2024"),
        (
            "search_type=advanced&transmission=manual&mileage_max=8000",
            "transmission = 'manual' AND mileage <= 8000",
        ),
        ("search_type=advanced&price_min=40000", "price >= 40000"),
        ("make=%27;%20DROP%20TABLE%20vehicles;--", "false"),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = search(&stack, &format!("{query}&limit=100{cursor}"), None).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(|v| v["id"].as_i64().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let ids = format!(
            "SELECT coalesce(string_agg(id::text, ',' ORDER BY id DESC), '') FROM vehicles WHERE {condition}"
        );
        let expected = stack.postgres.psql(&ids).await.unwrap().unwrap();
        let seen: Vec<_> = seen.iter().map(ToString::to_string).collect();
        assert_eq!(seen.join(","), expected, "{query}");
        assert!(condition == "false" || !seen.is_empty(), "{query} finds nothing");
    }
}

#[tokio::test]
async fn a_vehicle_is_shown_by_its_number() {
    let stack = Stack::start().await;
    for _ in 0..2 {
        let answer =
            stack.call("GET", &format!("/api/v1/vehicles/{}", vin(7).to_lowercase()), None, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let vehicle = answer.json().unwrap();
        assert_eq!((&vehicle["vin"], &vehicle["model"]), (&json!(vin(7)), &json!("CR-V")));
        assert!(vehicle["price"].as_f64().unwrap() > 0.0);
    }
    for absent in [vin(999_999), "x".to_owned(), "%FF%FE".to_owned(), "..%2f..%2fetc".to_owned()] {
        assert_problem(&stack.call("GET", &format!("/api/v1/vehicles/{absent}"), None, None).await, 404);
    }
}

#[tokio::test]
async fn meaningless_criteria_are_named() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    for (query, field) in [
        ("search_type=slow", "search_type"),
        ("year_min=2020", "year_min"),
        ("search_type=quick&fuel_type=diesel", "fuel_type"),
        ("search_type=recommended&make=ford", "make"),
        ("search_type=saved", "saved_search_id"),
        ("saved_search_id=1", "saved_search_id"),
        ("search_type=advanced&year_min=2020&year_max=2019", "year_max"),
        ("search_type=advanced&price_min=2&price_max=1", "price_max"),
        ("price_max=NaN", "price_max"),
        ("price_max=-1", "price_max"),
        ("search_type=advanced&mileage_max=-1", "mileage_max"),
        ("search_type=advanced&condition=broken", "condition"),
        ("make=", "make"),
        ("make=%00", "make"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
    ] {
        let refused = stack.call("GET", &format!("/api/v1/vehicles?{query}"), Some(&token), None).await;
        assert_eq!(refused.status, 422, "{query}: {}", refused.text);
        assert_invalid(&refused, &[field]);
    }
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM search_history").await.unwrap().unwrap(), "0");
}

#[tokio::test]
async fn who_searches_is_known_only_by_a_good_session() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    search(&stack, "make=ford", None).await;
    search(&stack, "make=ford", Some(&token)).await;
    let users = "SELECT string_agg(coalesce(user_id::text, '-'), ' ' ORDER BY id) FROM search_history";
    stack.until_sql(users, "- 1").await;
    for kind in ["recommended", "saved&saved_search_id=1"] {
        let path = format!("/api/v1/vehicles?search_type={kind}");
        assert_problem(&stack.call("GET", &path, None, None).await, 401);
    }
    assert_problem(&stack.call("GET", "/api/v1/vehicles", Some("bad"), None).await, 401);
}

#[tokio::test]
async fn favourites_come_go_and_stay_ones_own() {
    let stack = Stack::start().await;
    let (ann, eve) = (stack.user("ann").await, stack.user("eve").await);
    let add = async |token: Option<&str>, vin: &str| {
        stack.call("POST", "/api/v1/favorites", token, Some(json!({"vin": vin}))).await
    };
    for number in [3, 5, 4] {
        assert_eq!(add(Some(&ann), &vin(number)).await.status, 201);
    }
    assert_problem(&add(Some(&ann), &vin(3)).await, 409);
    assert_problem(&add(Some(&ann), &vin(999_999)).await, 404);
    assert_invalid(&add(Some(&ann), "x").await, &["vin"]);
    assert_problem(&add(None, &vin(3)).await, 401);
    let list = async |token: &str, query: &str| {
        let path = format!("/api/v1/favorites?{query}");
        let page = stack.call("GET", &path, Some(token), None).await.json().unwrap();
        let vins = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["vehicle"]["vin"].as_str().unwrap().to_owned());
        (vins.collect::<Vec<_>>(), page["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, cursor) = list(&ann, "limit=2").await;
    assert_eq!(first, [vin(4), vin(5)]);
    assert_eq!(list(&ann, &format!("limit=2&cursor={}", cursor.unwrap())).await, (vec![vin(3)], None));
    assert_eq!(list(&eve, "").await.0, Vec::<String>::new());
    let path = format!("/api/v1/favorites/{}", vin(3));
    assert_problem(&stack.call("DELETE", &path, Some(&eve), None).await, 404);
    assert_problem(&stack.call("DELETE", &path, None, None).await, 401);
    assert_eq!(stack.call("DELETE", &path, Some(&ann), None).await.status, 204);
    assert_problem(&stack.call("DELETE", &path, Some(&ann), None).await, 404);
    assert_problem(&stack.call("GET", "/api/v1/favorites", None, None).await, 401);
    assert_invalid(&stack.call("GET", "/api/v1/favorites?limit=0", Some(&ann), None).await, &["limit"]);
}

#[tokio::test]
async fn recommendations_follow_the_favourites() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let all = search(&stack, "search_type=recommended&limit=1", Some(&token)).await;
    assert_eq!(all["items"][0]["vin"], vin(6000), "without favourites: the newest");
    let convertible = search(&stack, "body_type=convertible&limit=1", None).await["items"][0].clone();
    let body = json!({"vin": convertible["vin"]});
    assert_eq!(stack.call("POST", "/api/v1/favorites", Some(&token), Some(body)).await.status, 201);
    let price = convertible["price"].as_f64().unwrap();
    let page = search(&stack, "search_type=recommended", Some(&token)).await;
    let items = page["items"].as_array().unwrap();
    assert!(items.len() > 1);
    for item in items {
        assert_eq!(item["body_type"], "convertible");
        assert!((item["price"].as_f64().unwrap() / price - 1.0).abs() < 0.201, "{item}");
    }
}

#[tokio::test]
async fn saved_searches_are_kept_run_and_forgotten() {
    let stack = Stack::start().await;
    let (ann, eve) = (stack.user("ann").await, stack.user("eve").await);
    let body =
        json!({"name": "family", "criteria": {"make": "Honda", "body_type": "minivan", "year_min": 2020}});
    let created = stack.call("POST", "/api/v1/saved-searches", Some(&ann), Some(body.clone())).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let saved = created.json().unwrap();
    assert_eq!(saved["criteria"], json!({"make": "honda", "body_type": "minivan", "year_min": 2020}));
    assert_eq!((&saved["notification_enabled"], &saved["last_checked_at"]), (&json!(true), &Value::Null));
    assert_problem(&stack.call("POST", "/api/v1/saved-searches", Some(&ann), Some(body.clone())).await, 409);
    let path = format!("/api/v1/saved-searches/{}", saved["id"]);
    assert_eq!(stack.call("GET", &path, Some(&ann), None).await.json().unwrap(), saved);

    let query = format!("search_type=saved&saved_search_id={}&limit=100", saved["id"]);
    let page = search(&stack, &query, Some(&ann)).await;
    let items = page["items"].as_array().unwrap();
    assert!(!items.is_empty());
    assert!(items.iter().all(|v| v["model"] == "Odyssey" && v["year"].as_i64().unwrap() >= 2020));
    assert!(stack.call("GET", &path, Some(&ann), None).await.json().unwrap()["last_checked_at"].is_string());
    assert_problem(&stack.call("GET", &format!("/api/v1/vehicles?{query}"), Some(&eve), None).await, 404);

    for method in ["GET", "DELETE"] {
        assert_problem(&stack.call(method, &path, Some(&eve), None).await, 404);
        assert_problem(&stack.call(method, &path, None, None).await, 401);
    }
    for (body, field) in [
        (json!({"name": "", "criteria": {}}), "name"),
        (json!({"name": "a", "criteria": {"year_min": 1}}), "criteria.year_min"),
        (json!({"name": "a", "criteria": {"colour": "red"}}), "criteria.colour"),
        (json!({"name": "a"}), "criteria"),
    ] {
        let refused = stack.call("POST", "/api/v1/saved-searches", Some(&ann), Some(body)).await;
        assert_invalid(&refused, &[field]);
    }
    assert_problem(&stack.call("POST", "/api/v1/saved-searches", None, Some(body)).await, 401);
    let list = async |token: &str| {
        let page = stack.call("GET", "/api/v1/saved-searches", Some(token), None).await;
        page.json().unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!((list(&ann).await, list(&eve).await), (1, 0));
    assert_eq!(stack.call("DELETE", &path, Some(&ann), None).await.status, 204);
    assert_problem(&stack.call("DELETE", &path, Some(&ann), None).await, 404);
}

#[tokio::test]
async fn a_search_of_the_cache_needs_no_database_and_is_counted_when_it_is_written() {
    let mut stack = Stack::start().await;
    let first = search(&stack, "make=ford", None).await;
    stack.until_sql("SELECT count(*) FROM search_history", "1").await;
    stack.postgres.stop().unwrap();
    assert_eq!(search(&stack, "make=ford", None).await, first);
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = || stack.samples(|name| name == "autodealgenie_db_connection_errors_total");
    while refused().await.into_values().sum::<f64>() < 1.0 {
        assert!(Instant::now() < deadline, "nobody tried to write it");
    }
    stack.postgres.restart().await.unwrap();
    stack.until_ready().await;
    for _ in 0..50 {
        search(&stack, "make=ford", None).await;
    }
    // The one that found no database is in neither.
    stack.until_sql("SELECT count(*) FROM search_history", "51").await;
    let counted = || stack.samples(|name| name == "autodealgenie_vehicle_searches_total");
    let deadline = Instant::now() + Duration::from_secs(30);
    while counted().await.into_values().sum::<f64>() < 51.0 {
        assert!(Instant::now() < deadline, "written, but not counted");
    }
    assert_eq!(counted().await.into_values().sum::<f64>(), 51.0);
}

#[tokio::test]
async fn without_redis_the_catalogue_is_searched_uncached() {
    let mut stack = Stack::start().await;
    let token = stack.user("ann").await;
    let cached = search(&stack, "make=ford", None).await;
    stack.redis.stop().unwrap();
    assert_eq!(search(&stack, "make=ford", None).await, cached);
    assert_eq!(search(&stack, "make=ford", Some(&token)).await, cached, "as if anonymous");
    let recommended = stack.call("GET", "/api/v1/vehicles?search_type=recommended", Some(&token), None).await;
    assert_problem(&recommended, 503);
    let counted = stack.samples(|name| name.starts_with("autodealgenie_cache_")).await;
    let of = |name: &str| counted[&format!("autodealgenie_cache_{name}")];
    assert_eq!(of("errors_total{cache_name=vehicle_search,operation=get}"), 2.0);
    assert_eq!(of("errors_total{cache_name=vehicle_search,operation=set}"), 2.0);
    assert_eq!(of("misses_total{cache_name=vehicle_search}"), 1.0);
    assert_eq!(of("hits_total{cache_name=vehicle_search}"), 0.0);
    stack.redis.restart().await.unwrap();
    stack.until_ready().await;
    search(&stack, "make=ford", None).await;
    search(&stack, "make=ford", None).await;
    let hits = stack.samples(|name| name == "autodealgenie_cache_hits_total").await;
    assert!(hits["autodealgenie_cache_hits_total{cache_name=vehicle_search}"] >= 1.0);
}
