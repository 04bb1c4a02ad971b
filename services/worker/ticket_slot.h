// Where a call keeps the engine's ticket. The engine hands it out after the work may have begun,
// and the caller may cancel before that: the slot remembers. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "engine/engine.h"

namespace lectern::services {

class TicketSlot {
 public:
  // Once. Cancels the ticket at once if Cancel came first; does not keep it if Clear did.
  void Set(std::unique_ptr<engine::Ticket> ticket) {
    bool cancelled = false;
    std::shared_ptr<engine::Ticket> shared = std::move(ticket);
    {
      const std::lock_guard lock(mutex_);
      cancelled = cancelled_;
      if (!cleared_) ticket_ = shared;
    }
    if (cancelled) shared->Cancel();
  }

  void Cancel() {
    std::shared_ptr<engine::Ticket> ticket;
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      ticket = ticket_;
    }
    // Outside the lock: a ticket may wait for a callback that is running.
    if (ticket != nullptr) ticket->Cancel();
  }

  // Drops the ticket without cancelling.
  void Clear() {
    std::shared_ptr<engine::Ticket> ticket;
    const std::lock_guard lock(mutex_);
    cleared_ = true;
    ticket.swap(ticket_);
  }

 private:
  std::mutex mutex_;
  bool cancelled_ = false;
  bool cleared_ = false;
  std::shared_ptr<engine::Ticket> ticket_;
};

}  // namespace lectern::services
