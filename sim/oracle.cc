#include "sim/oracle.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace sluice::sim {
namespace {

std::string Quoted(const Oracle::Content& content) { return content ? "\"" + *content + "\"" : "nothing"; }

// Text of the tests' own making: printable, short.
std::string Json(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

Oracle::OperationId Oracle::Add(Operation operation) {
  operation.begun = ++now_;
  operations_.push_back(std::move(operation));
  return operations_.size() - 1;
}

Oracle::OperationId Oracle::Begin(const std::string& name, Content content) {
  const OperationId id = Add({.kind = Kind::kWrite, .name = name, .content = std::move(content)});
  writes_[name].push_back(id);
  return id;
}

Oracle::OperationId Oracle::BeginIncrement(const std::string& counter, int64_t by) {
  SLUICE_CHECK(by > 0) << "the bounds of a counter assume that it only grows";
  const OperationId id = Add({.kind = Kind::kIncrement, .name = counter, .content = {}, .by = by});
  increments_[counter].push_back(id);
  return id;
}

Oracle::OperationId Oracle::BeginRead(const std::string& name) {
  ++reads_;
  return Add({.kind = Kind::kRead, .name = name, .content = {}});
}

Oracle::OperationId Oracle::BeginCounterRead(const std::string& counter) {
  ++reads_;
  return Add({.kind = Kind::kCounterRead, .name = counter, .content = {}});
}

void Oracle::EndCounterRead(OperationId read, int64_t seen) {
  Operation& operation = End(read);
  operation.ended = ++now_;
  operation.reply = fmt::format("{}", seen);
}

Oracle::Operation& Oracle::End(OperationId operation) {
  SLUICE_CHECK(operation < operations_.size() && operations_[operation].open) << "operation " << operation;
  operations_[operation].open = false;
  return operations_[operation];
}

void Oracle::Acknowledged(OperationId operation, std::string reply) {
  Operation& ended = End(operation);
  ended.acknowledged = ended.ended = ++now_;
  ended.reply = std::move(reply);
  ++acknowledged_;
}

void Oracle::Unknown(OperationId operation) { End(operation); }

void Oracle::Refused(OperationId operation, std::string reply) {
  Operation& ended = End(operation);
  ended.refused = true;
  ended.ended = ++now_;
  ended.reply = std::move(reply);
  ++refused_;
}

absl::Status Oracle::EndRead(OperationId read, const Content& seen) {
  Operation& operation = End(read);
  SLUICE_CHECK(operation.kind == Kind::kRead) << "operation " << read;
  operation.content = seen;
  operation.ended = ++now_;
  return Explain(operation.name, seen, operation.begun, operation.ended);
}

absl::Status Oracle::Executed(const std::string& group, int64_t index, const std::string& call,
                              const std::string& reply) {
  const auto [known, fresh] = executions_.try_emplace({group, index}, Execution{index, call, reply});
  const Execution& execution = known->second;
  if (!fresh && (execution.call != call || execution.reply != reply)) {
    return absl::DataLossError(
        fmt::format("{}: entry {} is {} with the reply {}, and was {} with {} elsewhere", group, index, call,
                    reply, execution.call, execution.reply));
  }
  const auto [first, once] = executed_.try_emplace({group, call}, &execution);
  if (!once && first->second->index != index) {
    return absl::DataLossError(
        fmt::format("{}: call {} was executed twice, at {} with the reply {} and at {} with {}", group, call,
                    first->second->index, first->second->reply, index, reply));
  }
  return absl::OkStatus();
}

absl::Status Oracle::Answered(const std::string& group, const std::string& call,
                              const std::string& reply) const {
  const auto executed = executed_.find({group, call});
  if (executed == executed_.end()) {
    return absl::DataLossError(
        fmt::format("{}: call {} was answered with {} and never executed", group, call, reply));
  }
  if (executed->second->reply == reply) return absl::OkStatus();
  return absl::DataLossError(fmt::format("{}: call {} was answered with {}, and executed with the reply {}",
                                         group, call, reply, executed->second->reply));
}

std::string Oracle::History() const {
  std::string lines;
  for (OperationId id = 0; id < operations_.size(); ++id) {
    const Operation& each = operations_[id];
    const bool is_read = each.kind == Kind::kRead || each.kind == Kind::kCounterRead;
    if (is_read && each.ended == kNever) continue;  // it says nothing
    constexpr const char* kNames[] = {"put", "add", "get", "count"};
    const bool removes = each.kind == Kind::kWrite && !each.content;
    const char* name = removes ? "rm" : kNames[static_cast<size_t>(each.kind)];
    lines += fmt::format("{{\"call\":{},\"key\":{},\"op\":\"{}\"", id, Json(each.name), name);
    if (each.kind == Kind::kWrite && each.content) lines += ",\"arg\":" + Json(*each.content);
    if (each.kind == Kind::kIncrement) lines += fmt::format(",\"arg\":\"{}\"", each.by);
    lines += fmt::format(",\"invoke\":{}", each.begun);
    if (each.ended != kNever) lines += fmt::format(",\"return\":{}", each.ended);
    lines += fmt::format(",\"outcome\":\"{}\"", each.ended == kNever ? "unknown"
                                                : each.refused       ? "refused"
                                                                     : "ok");
    if (each.kind == Kind::kRead && each.content) lines += ",\"reply\":" + Json(*each.content);
    if (!each.reply.empty()) lines += ",\"reply\":" + Json(each.reply);
    lines += "}\n";
  }
  return lines;
}

absl::Status Oracle::Explain(const std::string& name, const Content& seen, uint64_t begun,
                             uint64_t ended) const {
  // A write that was surely over before the read began hides every write that was surely over before it.
  uint64_t hidden_before = 0;
  OperationId hider = 0;
  const auto writes = writes_.find(name);
  if (writes == writes_.end()) {
    if (!seen) return absl::OkStatus();
    return absl::DataLossError(fmt::format("{}: {} was seen, nothing was ever put", name, Quoted(seen)));
  }
  for (const OperationId id : writes->second) {
    const Operation& write = operations_[id];
    if (write.acknowledged < begun && write.begun > hidden_before) {
      hidden_before = write.begun;
      hider = id;
    }
  }
  // The absence before the first write ended at time 0.
  if (!seen && hidden_before == 0) return absl::OkStatus();
  for (const OperationId id : writes->second) {
    const Operation& write = operations_[id];
    if (!write.refused && write.content == seen && write.begun < ended &&
        write.acknowledged >= hidden_before) {
      return absl::OkStatus();
    }
  }
  const std::string expected = hidden_before == 0 ? "nothing" : Quoted(operations_[hider].content);
  return absl::DataLossError(
      fmt::format("{}: {} was seen; the last acknowledged write was {} and no later one explains this", name,
                  Quoted(seen), expected));
}

absl::Status Oracle::Check(const std::vector<Reader>& servers) const {
  for (const auto& [name, ids] : writes_) {
    Content first;
    for (size_t i = 0; i < servers.size(); ++i) {
      ASSIGN_OR_RETURN(const Content seen, servers[i](name));
      const absl::Status explained = Explain(name, seen, now_ + 1, now_ + 2);
      if (!explained.ok()) {
        return absl::DataLossError(fmt::format("server {}: {}", i, Message(explained)));
      }
      if (i == 0) first = seen;
      if (seen != first) {
        return absl::DataLossError(
            fmt::format("{}: server {} holds {}, server 0 holds {}", name, i, Quoted(seen), Quoted(first)));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Oracle::CheckCounters(const std::vector<CounterReader>& servers) const {
  for (const auto& [name, ids] : increments_) {
    int64_t sure = 0, possible = 0;
    for (const OperationId id : ids) {
      const Operation& increment = operations_[id];
      if (increment.acknowledged != kNever) sure += increment.by;
      if (!increment.refused) possible += increment.by;
    }
    int64_t first = 0;
    for (size_t i = 0; i < servers.size(); ++i) {
      ASSIGN_OR_RETURN(const int64_t seen, servers[i](name));
      if (i == 0) first = seen;
      if (seen < sure || seen > possible || seen != first) {
        return absl::DataLossError(
            fmt::format("counter {}: server {} says {}, server 0 says {}; {} were acknowledged, "
                        "{} begun",
                        name, i, seen, first, sure, possible));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::sim
