package interop

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// listedServices must be found by reflection.
var listedServices = []string{"google.bytestream.ByteStream", "grpc.health.v1.Health"}[:2:2]

func serviceCases() []Case {
	return []Case{
		{"service/health", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error {
				ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
				defer cancel()
				reply, err := health.NewHealthClient(s.Conn).Check(ctx, &health.HealthCheckRequest{})
				if err != nil {
					return err
				}
				if reply.Status != health.HealthCheckResponse_SERVING {
					return fmt.Errorf("%s says %v", s.Address, reply.Status)
				}
				return nil
			})
		}},
		{"service/health-of-an-unknown-service", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error {
				ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
				defer cancel()
				_, err := health.NewHealthClient(s.Conn).Check(ctx, &health.HealthCheckRequest{Service: "no.such.Service"})
				return expectCode(err, codes.NotFound)
			})
		}},
		{"service/reflection", func(c *Cluster) error {
			return c.everywhere(func(s *Server) error {
				names, err := s.services()
				if err != nil {
					return err
				}
				for _, want := range append(listedServices, c.Services...) {
					if !names[want] {
						return fmt.Errorf("%s does not list %s but %v", s.Address, want, names)
					}
				}
				return nil
			})
		}},
		{"service/unknown-method", func(c *Cluster) error {
			return expectCode(c.first().rawCall("NoSuchMethod", nil), codes.Unimplemented)
		}},
	}
}

// services lists by the older reflection protocol, which every gRPC release speaks.
func (s *Server) services() (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := reflection.NewServerReflectionClient(s.Conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	reply, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, service := range reply.GetListServicesResponse().GetService() {
		names[service.Name] = true
	}
	return names, nil
}
