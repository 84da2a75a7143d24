// SPDX-License-Identifier: GPL-2.0-or-later
//
// A checkpoint image with one of everything.
#ifndef GODWIT_TESTS_PLUGIN_GOOD_IMAGE_H
#define GODWIT_TESTS_PLUGIN_GOOD_IMAGE_H

#include <cstdint>
#include <string>

#include "image.h"

namespace godwit::criu {

inline image::Object* add(image::Context* context, std::uint32_t type, std::uint32_t handle) {
  image::Object* object = context->add_objects();
  object->set_type(type);
  object->set_handle(handle);
  object->set_owner(1);
  return object;
}

// A PD, an MR, a CQ with a channel, a connected QP; some unread events.
inline image::Image good() {
  image::Image image;
  image.set_version(kImageVersion);
  image.set_move(0x1122334455667788);
  image.set_device("godwit0");
  image.set_driver_abi(GODWIT_UVERBS_ABI);
  image.set_state_version(1);
  image::Context* context = image.add_contexts();
  context->set_doorbell_page(3);
  context->set_path("/dev/infiniband/uverbs0");
  context->mutable_file()->set_id(10);
  context->mutable_file()->set_flags(2);
  context->mutable_async()->set_id(11);
  context->mutable_async()->set_flags(0);
  image::Channel* channel = context->add_channels();
  channel->set_cookie(99);
  channel->mutable_file()->set_id(12);
  channel->mutable_file()->set_flags(0);
  add(context, GODWIT_RECORD_PD, 1);
  image::Object* mr = add(context, GODWIT_RECORD_MR, 0);
  mr->set_pd_handle(1);
  mr->set_number(0xdeadbeef);
  mr->set_start(0x7f0000000000);
  mr->set_length(1ull << 33);
  image::Object* cq = add(context, GODWIT_RECORD_CQ, 2);
  cq->set_channel(99);
  cq->set_user_handle(0x5555);
  cq->set_length(8192);
  cq->set_state(std::string(96, '\7'));
  image::Object* qp = add(context, GODWIT_RECORD_QP, 5);
  qp->set_pd_handle(1);
  qp->set_send_cq_handle(2);
  qp->set_recv_cq_handle(2);
  qp->set_length(8192);
  qp->set_has_av(1);
  qp->set_own_gid(std::string(16, '\1'));
  qp->set_peer_gid(std::string(16, '\2'));
  qp->set_state(std::string(512, '\3'));
  image::CompEvent* comp = context->add_comp_events();
  comp->set_channel(99);
  comp->set_user_handle(0x5555);
  image::AsyncEvent* async = context->add_async_events();
  async->set_element(1);
  async->set_type(9);
  return image;
}

}  // namespace godwit::criu

#endif  // GODWIT_TESTS_PLUGIN_GOOD_IMAGE_H
