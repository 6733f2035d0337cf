-- The seeded catalogue: 6,000 vehicles, the same in every database. 30 models times 200 listings, older ones cheaper
-- and further driven.

INSERT INTO vehicles (
    vin, make, model, trim, year, body_type, condition, fuel_type, transmission, color, mileage, price, location
)
SELECT
    '1ADGX' || lpad(n::text, 12, '0'),
    make,
    model,
    (ARRAY['Base', 'SE', 'Sport', 'Limited'])[1 + n / 30 % 4],
    year,
    body_type,
    (CASE WHEN year = 2025 THEN 'new' WHEN year >= 2020 AND n / 30 % 3 = 0 THEN 'certified' ELSE 'used' END)::vehiclecondition,
    fuel_type,
    CASE WHEN fuel_type = 'gasoline' AND n / 30 % 11 = 0 THEN 'manual' ELSE 'automatic' END,
    (ARRAY['black', 'white', 'silver', 'blue', 'red', 'grey', 'green', 'brown', 'orange'])[1 + n / 30 % 9],
    CASE WHEN year = 2025 THEN n % 50 ELSE (2025 - year) * (8000 + n * 977 % 7000) END,
    round(base_price * 0.89 ^ (2025 - year) * (0.90 + n * 37 % 21 / 100.0), 2),
    (ARRAY['Austin, TX', 'Boston, MA', 'Chicago, IL', 'Denver, CO', 'Seattle, WA'])[1 + n / 30 % 5]
FROM (
    SELECT
        n,
        2012 + (n / 30 * 3 + n % 30) % 14 AS year,
        models.*
    FROM generate_series(1, 6000) AS n
    JOIN (
        VALUES
            (0, 'Toyota', 'Camry', 'sedan', 'gasoline', 28400.0),
            (1, 'Toyota', 'Corolla', 'sedan', 'gasoline', 22300.0),
            (2, 'Toyota', 'RAV4', 'suv', 'hybrid', 32300.0),
            (3, 'Toyota', 'Prius', 'hatchback', 'hybrid', 28300.0),
            (4, 'Toyota', 'Tacoma', 'pickup', 'gasoline', 31600.0),
            (5, 'Honda', 'Civic', 'sedan', 'gasoline', 24250.0),
            (6, 'Honda', 'Accord', 'sedan', 'hybrid', 33700.0),
            (7, 'Honda', 'CR-V', 'suv', 'hybrid', 35000.0),
            (8, 'Honda', 'Odyssey', 'minivan', 'gasoline', 42200.0),
            (9, 'Ford', 'F-150', 'pickup', 'gasoline', 38800.0),
            (10, 'Ford', 'Escape', 'suv', 'gasoline', 29300.0),
            (11, 'Ford', 'Mustang', 'coupe', 'gasoline', 32000.0),
            (12, 'Ford', 'Mustang Mach-E', 'suv', 'electric', 39900.0),
            (13, 'Chevrolet', 'Silverado', 'pickup', 'diesel', 40300.0),
            (14, 'Chevrolet', 'Equinox', 'suv', 'gasoline', 29900.0),
            (15, 'Chevrolet', 'Bolt', 'hatchback', 'electric', 27400.0),
            (16, 'Tesla', 'Model 3', 'sedan', 'electric', 38990.0),
            (17, 'Tesla', 'Model Y', 'suv', 'electric', 44990.0),
            (18, 'BMW', '330i', 'sedan', 'gasoline', 45600.0),
            (19, 'BMW', 'X5', 'suv', 'gasoline', 65200.0),
            (20, 'Mercedes-Benz', 'C 300', 'sedan', 'gasoline', 48400.0),
            (21, 'Audi', 'Q5', 'suv', 'gasoline', 45900.0),
            (22, 'Volkswagen', 'Golf', 'hatchback', 'gasoline', 32600.0),
            (23, 'Volkswagen', 'ID.4', 'suv', 'electric', 39700.0),
            (24, 'Hyundai', 'Elantra', 'sedan', 'gasoline', 21900.0),
            (25, 'Hyundai', 'Tucson', 'suv', 'hybrid', 32600.0),
            (26, 'Kia', 'Telluride', 'suv', 'gasoline', 36400.0),
            (27, 'Subaru', 'Outback', 'wagon', 'gasoline', 28900.0),
            (28, 'Mazda', 'MX-5', 'convertible', 'gasoline', 29200.0),
            (29, 'Jeep', 'Wrangler', 'suv', 'gasoline', 32700.0)
    ) AS models (number, make, model, body_type, fuel_type, base_price) ON models.number = n % 30
) AS listings
ORDER BY n;
