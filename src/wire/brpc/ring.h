// A queue through its members: a link in each, so that any of them leaves in one step and none costs memory.
//
//   struct Boat { RingLink<Boat> link; };
//   Ring<Boat, &Boat::link> lock;
//   lock.PushBack(&boat);  lock.Remove(&boat);  Boat* first = lock.PopFront();
//
// Threading: one thread at a time. Ownership: none; a member must leave before it goes. Failure: none.
#pragma once

namespace sluice::wire::brpc {

template <typename T>
struct RingLink {
  RingLink() = default;
  RingLink(const RingLink&) = delete;
  RingLink& operator=(const RingLink&) = delete;
  T* prev = nullptr;
  T* next = nullptr;
};

template <typename T, RingLink<T> T::*kLink>
class Ring {
 public:
  bool empty() const { return front_ == nullptr; }
  T* front() const { return front_; }
  static T* Next(const T* member) { return (member->*kLink).next; }

  void PushBack(T* member) {
    RingLink<T>& link = member->*kLink;
    link.prev = back_;
    link.next = nullptr;
    (back_ == nullptr ? front_ : (back_->*kLink).next) = member;
    back_ = member;
  }
  // `member` is in this ring.
  void Remove(T* member) {
    RingLink<T>& link = member->*kLink;
    (link.prev == nullptr ? front_ : (link.prev->*kLink).next) = link.next;
    (link.next == nullptr ? back_ : (link.next->*kLink).prev) = link.prev;
    link.prev = link.next = nullptr;
  }
  // The first member, or nullptr.
  T* PopFront() {
    T* first = front_;
    if (first != nullptr) Remove(first);
    return first;
  }

 private:
  T* front_ = nullptr;
  T* back_ = nullptr;
};

}  // namespace sluice::wire::brpc
