"""Name the columns of feedback, once."""

EVENT = "event_id"  # str, unique for ever: the same event sent twice is one event
USER = "user_id"  # str
ITEM = "item_id"  # str
TIME = "timestamp"  # microseconds, UTC: when the event happened, not when it arrived
RELEASE = "release_id"  # str or null: the release that served the impression

KEYS = (EVENT, USER, ITEM, TIME)
"""What every event must carry, whatever the line."""
