//! Model names that are downloaded.
