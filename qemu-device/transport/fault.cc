// SPDX-License-Identifier: GPL-2.0-or-later
#include "transport/fault.h"

#include "godwit_queue.h"

namespace godwit::transport {

std::uint8_t completion_status(Fault fault) {
  switch (fault) {
    case Fault::kNone:
      return GODWIT_CQE_SUCCESS;
    case Fault::kLocalQpOperation:
      return GODWIT_CQE_LOC_QP_OP_ERR;
    case Fault::kLocalLength:
    case Fault::kReceiveTooShort:
      return GODWIT_CQE_LOC_LEN_ERR;
    case Fault::kLocalProtection:
    case Fault::kLocalDma:
    case Fault::kReceiveProtection:
      return GODWIT_CQE_LOC_PROT_ERR;
    case Fault::kRemoteInvalidRequest:
      return GODWIT_CQE_REM_INV_REQ_ERR;
    case Fault::kRemoteAccess:
      return GODWIT_CQE_REM_ACCESS_ERR;
    case Fault::kRemoteOperational:
      return GODWIT_CQE_REM_OP_ERR;
    case Fault::kRetryExceeded:
    case Fault::kPauseLimit:
      return GODWIT_CQE_RETRY_EXC_ERR;
    case Fault::kRnrRetryExceeded:
      return GODWIT_CQE_RNR_RETRY_EXC_ERR;
    case Fault::kBadResponse:
      return GODWIT_CQE_BAD_RESP_ERR;
    case Fault::kInvalidRequest:
    case Fault::kRemoteAccessDenied:
    case Fault::kResponderOperational:
      return GODWIT_CQE_LOC_ACCESS_ERR;
    case Fault::kFlushed:
    case Fault::kCqOverflow:
      return GODWIT_CQE_WR_FLUSH_ERR;
  }
  return GODWIT_CQE_WR_FLUSH_ERR;
}

}  // namespace godwit::transport
