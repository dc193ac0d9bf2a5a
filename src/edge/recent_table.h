// A bounded table of things that are made when they are first asked for, and let go when others need the room.
//
//   RecentTable<std::string, std::shared_ptr<Thing>> table(1024, std::chrono::seconds(10));
//   std::shared_ptr<Thing>* thing = table.Get(key, now, [&] { return MakeThing(); });   // null: full
//
// A full table lets the one go that nobody has asked for the longest, if that is `kept` or more ago. If all
// are in use the newcomer gets nothing: letting one go would only have it asked for again, in turn with all
// the others. Threading: none; callers lock. Ownership: the table owns its values; a pointer that Get gave is
// good until the next Get.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <utility>

#include "env/clock.h"

namespace sluice::edge {

template <typename Key, typename Value>
class RecentTable {
 public:
  RecentTable(size_t values_max, env::Duration kept) : values_max_(values_max), kept_(kept) {}

  // `let_go`, if given, gets the value that made room.
  template <typename Make>
  Value* Get(const Key& key, env::Instant now, Make make, std::optional<Value>* let_go = nullptr) {
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.splice(entries_.end(), entries_, found->second);
    } else {
      if (entries_.size() >= values_max_ && !LetOneGo(now, let_go)) return nullptr;
      by_key_[key] = entries_.insert(entries_.end(), Entry{key, now, make()});
    }
    entries_.back().asked_for = now;
    return &entries_.back().value;
  }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Key key;
    env::Instant asked_for;
    Value value;
  };

  bool LetOneGo(env::Instant now, std::optional<Value>* let_go) {
    Entry& oldest = entries_.front();
    if (now - oldest.asked_for < kept_) return false;
    if (let_go != nullptr) *let_go = std::move(oldest.value);
    by_key_.erase(oldest.key);
    entries_.pop_front();
    return true;
  }

  const size_t values_max_;
  const env::Duration kept_;
  std::list<Entry> entries_;  // the last that was asked for stands last
  std::map<Key, typename std::list<Entry>::iterator> by_key_;
};

}  // namespace sluice::edge
