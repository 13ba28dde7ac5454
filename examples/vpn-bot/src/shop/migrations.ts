/**
 * The shop's own tables, forward only. What must never happen twice is a unique constraint here, whatever the code
 * above believes: one row per charge, one settling payment per order, one subscription per customer, one leg per entry.
 */
import type { Migration } from 'holdfast'

export const shopMigrations: readonly Migration[] = [
  {
    id: 1,
    name: 'shop',
    sql: `
      CREATE SCHEMA IF NOT EXISTS shop;
      CREATE TABLE shop.customer (
        id text PRIMARY KEY,
        chat_id text NOT NULL,
        language text NOT NULL CHECK (language IN ('en', 'ru')),
        reachable boolean NOT NULL
      );
      CREATE TABLE shop.orders (
        id uuid PRIMARY KEY,
        customer_id text NOT NULL REFERENCES shop.customer (id),
        plan text NOT NULL,
        price_minor bigint NOT NULL CHECK (price_minor > 0),
        currency text NOT NULL,
        provider text NOT NULL CHECK (provider IN ('card', 'crypto')),
        provider_ref text,
        pay_url text,
        status text NOT NULL CHECK (status IN ('created', 'invoiced', 'paid', 'fulfilled', 'superseded', 'expired')),
        created_at timestamptz(3) NOT NULL,
        expires_at timestamptz(3) NOT NULL,
        settled_by text UNIQUE,
        revision integer,
        CHECK ((status IN ('paid', 'fulfilled')) = (settled_by IS NOT NULL))
      );
      CREATE INDEX orders_open ON shop.orders (expires_at) WHERE status IN ('created', 'invoiced');
      CREATE INDEX orders_of_customer ON shop.orders (customer_id, status);
      CREATE INDEX orders_to_watch ON shop.orders (created_at) WHERE provider = 'crypto' AND settled_by IS NULL AND provider_ref IS NOT NULL;
      CREATE TABLE shop.payment (
        key text PRIMARY KEY,
        provider text NOT NULL,
        charge_id text NOT NULL,
        amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
        currency text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('ok', 'late', 'mismatch', 'orphan', 'foreign')),
        order_id uuid,
        customer_id text,
        received_at timestamptz(3) NOT NULL,
        UNIQUE (provider, charge_id)
      );
      CREATE UNIQUE INDEX payment_settles_one_order ON shop.payment (order_id) WHERE outcome IN ('ok', 'late');
      CREATE TABLE shop.subscription (
        id text PRIMARY KEY,
        customer_id text NOT NULL UNIQUE REFERENCES shop.customer (id),
        status text NOT NULL CHECK (status IN ('pending_activation', 'active', 'expiring', 'expired', 'revoking', 'revoked', 'activation_failed')),
        generation integer NOT NULL CHECK (generation > 0),
        revision integer NOT NULL CHECK (revision > 0),
        expires_at timestamptz(3) NOT NULL,
        key text,
        runs integer NOT NULL,
        failures integer NOT NULL,
        last_error text,
        claimed_until timestamptz(3) NOT NULL,
        pending_since timestamptz(3) NOT NULL,
        created_at timestamptz(3) NOT NULL,
        CHECK (status <> 'active' OR key IS NOT NULL)
      );
      CREATE INDEX subscription_pending ON shop.subscription (pending_since) WHERE status = 'pending_activation';
      CREATE INDEX subscription_ending ON shop.subscription (expires_at) WHERE status IN ('active', 'activation_failed', 'expiring', 'revoking');
      CREATE TABLE shop.ledger (
        entry text NOT NULL,
        account text NOT NULL,
        amount_minor bigint NOT NULL,
        currency text NOT NULL,
        booked_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (entry, account)
      );
      CREATE INDEX ledger_owed ON shop.ledger (account) WHERE account LIKE 'owed:%';
    `,
  },
]
