// sluice.admin.Admin: what the command line asks (`sluice status`, `ls`, `stat`, `rm`).
//
//   AdminService service(host, &loop);  builder.RegisterService(&service);
//
// Threading: gRPC's threads; answers come over `executor`. Errors are statuses with the canonical code.
#pragma once

#include "env/executor.h"
#include "node/host.h"
#include "sluice/admin.grpc.pb.h"

namespace sluice::edge::admin {

inline constexpr uint32_t kListLimitMax = 1000;     // names of one page
inline constexpr uint32_t kStreamsLimitMax = 1000;  // streams of one answer

class AdminService final : public ::sluice::admin::Admin::CallbackService {
 public:
  AdminService(node::Host* host, env::Executor* executor) : host_(host), executor_(executor) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const ::sluice::admin::StatusRequest* request,
                                   ::sluice::admin::StatusReply* reply) override;
  grpc::ServerUnaryReactor* Streams(grpc::CallbackServerContext* context,
                                    const ::sluice::admin::StreamsRequest* request,
                                    ::sluice::admin::StreamsReply* reply) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const ::sluice::admin::ListRequest* request,
                                 ::sluice::admin::ListReply* reply) override;
  grpc::ServerUnaryReactor* Stat(grpc::CallbackServerContext* context,
                                 const ::sluice::admin::StatRequest* request,
                                 ::sluice::admin::Blob* reply) override;
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const ::sluice::admin::RemoveRequest* request,
                                   ::sluice::admin::RemoveReply* reply) override;

 private:
  // The group that is meant, if it is here.
  absl::StatusOr<GroupId> Group(const grpc::CallbackServerContext& context, const std::string& raw) const;

  node::Host* const host_;
  env::Executor* const executor_;
};

}  // namespace sluice::edge::admin
